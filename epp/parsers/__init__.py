"""Request bodies to requests, response bodies to token usage. Pure."""
