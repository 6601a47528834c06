"""A model server that behaves like vLLM: engine model, block cache, OpenAI API."""
