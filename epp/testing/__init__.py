"""For authors of plugins: builders, contract checks, transcripts. Imports no test framework."""
