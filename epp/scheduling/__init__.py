"""One scheduling cycle: producers, then filters, scorers and picker of each profile (llm-d's `pkg/epp/scheduling`).

In: a `Request` (epp.api), its candidates as `Endpoints`, and the producers and profiles of the plan. `pool_view` makes
the candidates from the endpoint store and the ledger. Out: columns and request attributes from the producers, and one
`ProfileRunResult` a profile: scores and picked endpoints, or the rejection if a filter left none.
Owns no state of requests or endpoints; only how often a plugin's errors are logged and its calls timed.
Everything is synchronous except producers that do I/O; nothing here raises because of a plugin.
Which profiles run, reservations, and everything a client or Envoy sees belong to `epp.requestcontrol`.
"""
