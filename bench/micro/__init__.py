"""Microbenchmarks of single parts of the picker, each a command: `python -m bench.micro.<module>`."""
