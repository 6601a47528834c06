"""Metrics of model servers by polling `/metrics`.

In: Prometheus text pages over kept-alive connections. Out: values of columns for each endpoint, written through
`EndpointStore.record_scrape`. Owns the connections and the schedule of scrapes.
"""
