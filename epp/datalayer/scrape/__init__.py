"""Metrics of model servers, by polling their `/metrics` pages: `metrics-data-source` and `core-metrics-extractor`.

In: Prometheus text pages, over persistent HTTP/1.1 connections. Out: an `EndpointUpdate` for each page.
`Scraper` owns the schedule and the connections; `MetricsPageReader`, one for each endpoint, owns what is remembered
between pages. Nothing is written to the endpoint store here: `epp.datalayer.runtime` does that.
"""
