"""Envoy's external processing protocol (ext_proc): one stream for each HTTP request.

In: serialized ProcessingRequests of one RPC, through `epp.grpc`. Out: serialized ProcessingResponses; calls of the
`Router` that chooses an endpoint and of the `RoutedRequest` that follows it to its end (both protocols are defined in
`epp.requestcontrol.interfaces`). `session` is the protocol's state machine, without I/O, clock or await; `handler`
carries out its actions; `codec` is the only part that knows protobuf.

State: a session and its request body live as long as the RPC; a server's streams share one codec with its caches. What
does not belong here: sockets and HTTP/2 (`epp.grpc`), and everything that decides (`epp.requestcontrol`).
"""
