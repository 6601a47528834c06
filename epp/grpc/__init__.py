"""A gRPC server for a few methods: HTTP/2 and gRPC framing written by hand, and grpc.aio as the second transport.

In: bytes of sockets. Out: calls of the handlers that `rpc.Handler` describes, and their answers as bytes. `server`
owns the sockets, `http2.Connection` the state of one connection, `tls` the serving certificates. Knows nothing of
ext_proc, of Envoy's messages or of protobuf: handlers take and give messages as bytes.
"""
