"""Producers: each computes columns of the candidates or facts of the request, before filters and scorers run."""
