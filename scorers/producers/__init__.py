"""Producers: each computes columns or request attributes that scorers, filters and other producers consume."""
