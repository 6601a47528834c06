"""Metrics of model servers by polling `/metrics`.

In: Prometheus text pages over kept-alive connections. Out: values of columns for each endpoint, written through
`ColumnWriter.record`. Owns the connections and the schedule of scrapes.
"""
