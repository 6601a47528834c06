"""Observability: metrics, logs, the decision log and the admin listener (llm-d's `pkg/epp/metrics`).

In: what `epp.requestcontrol` and `epp.datalayer` record, and at reading time the endpoint store and the ledger. Out:
the Prometheus page, JSON for `/debug/*`, health probes, structured logs. Metric names, labels and buckets are llm-d's.
Owns the metric cells and the last decisions, both bounded, because label values and requests come from clients.
Recording is plain arithmetic on the event loop; everything expensive happens at reading time. No decision depends on
what is recorded here; counts that routing needs belong to `epp.datastore`.
"""
