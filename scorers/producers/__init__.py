"""Producers: each computes columns or request attributes that scorers, filters and other producers consume.

Flows in: a request and its candidates, before any filter runs. Flows out: the keys that `produces` lists. What outlives
a request (the approximate prefix index, the load of requests in flight) belongs to the producer's instance, which
learns of choices and ends through `RequestHooks`. `prefix_index` is the data structure of one of them, no plugin.
"""
