"""Filters: each removes endpoints that must not serve a request."""
