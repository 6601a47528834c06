"""Endpoints and their live state (llm-d's `pkg/epp/datalayer`).

In: what discoveries find and data sources receive. Out: endpoints and column values in `epp.datastore.endpoint_store`.
`runtime.DataLayer` starts, restarts and stops both, for each endpoint from when it joins until it leaves; it owns their
tasks and keeps the contracts of `epp.api.datalayer`. `endpoint_union` owns what each discovery has reported.
Built-in implementations: `discovery`, `scrape`. Requests, and what values mean for routing, do not belong here.
"""
