"""The clusters of the gateway's Envoy bootstrap: the pool of model servers, and the endpoint picker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epp.address import split_host_port
from epp.headers import DESTINATION_ENDPOINT, DESTINATION_ENDPOINT_SERVED, LB_NAMESPACE

Json = dict[str, Any]

POOL_CLUSTER, PICKER_CLUSTER, ACCESS_LOG_CLUSTER = "pool", "picker", "picker-log"
EXT_PROC_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
# On a retry Envoy opens a new ext_proc stream and sends its messages again, the body included as long as it is below
# 64 KiB. So a request whose decision was lost with the picker, or that arrived while the picker restarts, waits for the
# next picker (docs/envoy.md). Envoy draws each delay at random up to the current back-off, so 60 retries take some six
# seconds: longer than the health check needs to find the picker unhealthy, after which they fail at once.
EXT_PROC_RETRY_POLICY: Json = {
    "retry_on": "connect-failure,refused-stream,reset,unavailable",
    "num_retries": 60,
    "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"},
}
_LB_POLICIES = "envoy.extensions.load_balancing_policies"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def pack_any(message: str, **fields: Any) -> Json:
    """A `google.protobuf.Any` of this message type, in JSON form."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def build_static_pool(
    endpoints: Sequence[str], connect_timeout: float, idle_timeout: float, fallback: str, *, override: bool
) -> Json:
    """Model servers known to Envoy, chosen by `fallback`; with `override` only where the picker has not chosen."""
    message = {"least_request": "LeastRequest", "round_robin": "RoundRobin"}[fallback]
    policy = _build_lb_policy(fallback, pack_any(f"{_LB_POLICIES}.{fallback}.v3.{message}"))
    if override:
        config = pack_any(
            f"{_LB_POLICIES}.override_host.v3.OverrideHost",
            override_host_sources=[{"metadata": {"key": LB_NAMESPACE, "path": [{"key": DESTINATION_ENDPOINT}]}}],
            selected_host_key={"key": LB_NAMESPACE, "path": [{"key": DESTINATION_ENDPOINT_SERVED}]},
            fallback_policy=policy,
        )
        policy = _build_lb_policy("override_host", config)
    return {
        **_build_pool_settings(connect_timeout, idle_timeout),
        "type": "STATIC",
        "load_balancing_policy": policy,
        "load_assignment": _build_load_assignment(POOL_CLUSTER, endpoints),
    }


def build_original_dst_pool(connect_timeout: float, idle_timeout: float) -> Json:
    """Model servers that only the picker knows: Envoy connects to the address in the destination header."""
    return {
        **_build_pool_settings(connect_timeout, idle_timeout),
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION_ENDPOINT},
    }


def build_picker_cluster(address: str, tls: bool, health_interval: float) -> Json:
    """The picker as ext_proc server, with active health checks."""
    interval = f"{health_interval:.3f}s"
    check = {
        "grpc_health_check": {"service_name": EXT_PROC_SERVICE},
        "timeout": "0.500s",
        "interval": interval,
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        # Longer than a restart of the picker takes: until the host is unhealthy requests wait (EXT_PROC_RETRY_POLICY),
        # afterwards they fail at once or fall back.
        "unhealthy_interval": "0.500s",
        "unhealthy_threshold": 5,
        "healthy_threshold": 1,
    }
    # In panic mode Envoy would send requests to the unhealthy picker, where they fail after their body was read.
    no_panic = {"healthy_panic_threshold": {"value": 0}}
    return {**_build_grpc_cluster(PICKER_CLUSTER, address, tls), "common_lb_config": no_panic, "health_checks": [check]}


def build_access_log_cluster(address: str, tls: bool) -> Json:
    """The picker as access log server, on a connection of its own.

    Envoy drops log entries while their connection is blocked, as one that also carries large request bodies would be.
    """
    return _build_grpc_cluster(ACCESS_LOG_CLUSTER, address, tls)


def _build_grpc_cluster(name: str, address: str, tls: bool) -> Json:
    windows = {"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 16 << 20}
    options = pack_any(_HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": windows})
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "circuit_breakers": _unlimited_circuit_breakers(),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: options},
        "load_assignment": _build_load_assignment(name, [address]),
    }
    if tls:
        context: Json = {"alpn_protocols": ["h2"], "validation_context": {}}
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": pack_any(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=context
            ),
        }
    return cluster


def _build_pool_settings(connect_timeout: float, idle_timeout: float) -> Json:
    options = pack_any(
        _HTTP_OPTIONS,
        common_http_protocol_options={"idle_timeout": f"{idle_timeout:.3f}s"},
        explicit_http_config={"http_protocol_options": {}},
    )
    return {
        "name": POOL_CLUSTER,
        "connect_timeout": f"{connect_timeout:.3f}s",
        "circuit_breakers": _unlimited_circuit_breakers(),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: options},
    }


def _build_lb_policy(name: str, config: Json) -> Json:
    extension = {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}
    return {"policies": [{"typed_extension_config": extension}]}


def _unlimited_circuit_breakers() -> Json:
    """Lifts Envoy's default of 1,024 requests per cluster: admission is the picker's decision."""
    limit = 1_000_000
    threshold = {"max_connections": limit, "max_pending_requests": limit, "max_requests": limit, "max_retries": 1024}
    return {"thresholds": [threshold]}


def _build_load_assignment(name: str, endpoints: Sequence[str]) -> Json:
    members = []
    for endpoint in endpoints:
        host, port = split_host_port(endpoint)
        members.append({"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}})
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]}
