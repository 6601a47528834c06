"""Filters: each removes endpoints that must not serve a request.

Flows in: a request and the candidates that earlier filters of the profile left. Flows out: a mask, true keeps the
endpoint. Filters keep no state of requests; preferences among allowed endpoints are scorers' business.
"""
