"""Server side of HTTP/2 (RFC 9113) as gRPC uses it, without I/O.

In: received bytes (`Connection.receive`). Out: calls of RPC handlers, and bytes in the send buffer. `Connection` owns
the streams and the connection's flow-control windows, `Stream` one RPC's. Sockets, timers and TLS belong to
`epp.grpc.server`.
"""
