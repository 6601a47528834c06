"""gRPC services beside ext_proc: grpc.health.v1, and Envoy's access log.

In: their requests as bytes. Out: readiness as llm-d and GAIE name it, and one `LogEntry` for each request that Envoy
finished. Owns no state but the open streams; what a log entry means for a request is decided in `epp.requestcontrol`.
"""
