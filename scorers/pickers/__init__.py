"""Pickers: each orders the candidates by their weighted scores."""
