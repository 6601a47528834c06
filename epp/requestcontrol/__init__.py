"""The life of one request, from its headers and body to its end (llm-d's `pkg/epp/requestcontrol`).

In: `RequestHeaders` and the body from `epp.extproc`, log entries from `epp.services`, scrapes from `epp.datastore`.
Out: a `RoutingDecision` or a `Rejection`; then, until the request ends, changes of its reservation and calls of the
plugins' hooks; metrics and decision records for `epp.obs`.
A request has three forms here: `RequestContext` until it is routed (with the `Request` that plugins see), then
`InflightRequest` until it ends, and a `DecisionRecord` for `/debug/decisions` afterwards.
Owns the requests in flight. Their reservations belong to `epp.datastore`, filters, scorers and pickers run in
`epp.scheduling`, and what a request looks like on the wire is known to `epp.extproc` and `epp.parsers` only.
"""
