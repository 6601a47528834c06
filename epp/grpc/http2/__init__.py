"""The server side of HTTP/2 (RFC 9113) as gRPC uses it, without I/O.

In: received octets (`Connection.receive_data`). Out: calls of RPC handlers, and octets to write
(`Connection.data_to_send`). A `Connection` owns a `FrameReader` (parsing), a `HeaderDecoder` (HPACK), its `Stream`
objects (one RPC each) and a `SendBuffer` that the streams share (output, send window). The connection does flow control
of what it receives and enforces the limits. Sockets, timers and TLS belong to `epp.grpc.server`.
"""
