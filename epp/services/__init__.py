"""gRPC services beside ext_proc: grpc.health.v1, and Envoy's access log.

In: serialized requests of kubelet probes, health checks of gateways, and Envoy's log streams. Out: readiness under
the service names of llm-d and GAIE, and an `AccessLogEntry` for each request that Envoy finished. State: the open
streams, which register with the server's `LongLivedRpcs`, and nothing else.

What a log entry means for a request is decided in `epp.requestcontrol.completion`; sockets belong to `epp.grpc`.
"""
