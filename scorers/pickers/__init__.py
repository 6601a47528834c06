"""Pickers: each chooses among the endpoints of a profile by their weighted scores."""
