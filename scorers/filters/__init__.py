"""Filters: each narrows the candidates of a decision."""
