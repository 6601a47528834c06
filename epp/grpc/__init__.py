"""A gRPC server: HTTP/2 and gRPC framing of our own, and grpc.aio as the reference transport.

In: octets from sockets. Out: calls of RPC handlers (`rpc.RpcHandler`), and the octets of their responses. Messages are
serialized bytes on both sides. `server` owns the sockets, `http2.connection` the state of each connection,
`rpc_stats` the count of open RPCs, `long_lived` the RPCs that a drain ends, `tls` the certificates. What the served
methods are, their protobuf messages and what calls them do not belong here: handlers and their encoding are in
`epp.extproc` and `epp.services`.
"""
