"""Envoy's bootstrap for measurements: a listener through the picker, one through the floor, and one without either.

Not the gateway's configuration on purpose: every picker that is measured, ours or another, gets the same input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from epp.address import split_host_port
from epp.headers import DESTINATION_ENDPOINT

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions"


def build_bootstrap(
    *,
    listeners: Mapping[str, int],
    admin: int,
    pickers: Mapping[str, int],
    server: str,
    log: bool,
    responses: Collection[str],
) -> Json:
    """`listeners` by name: "direct" forwards to `server`, the others go through the picker of the same name.

    `pickers`: their ports by name; "picked" is the one that is measured. `log`: it also gets the gRPC access log.
    `responses`: names of the pickers that get the response phase.
    """
    host, port = split_host_port(server)
    original_dst: Json = {
        "name": "pool",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "5s",
        "circuit_breakers": _UNLIMITED_CIRCUIT_BREAKERS,
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION_ENDPOINT},
    }
    static: Json = {
        "name": "direct",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": _UNLIMITED_CIRCUIT_BREAKERS,
        "load_assignment": _build_load_assignment("direct", host, port),
    }
    return {
        "admin": {"address": _socket_address("127.0.0.1", admin)},
        "static_resources": {
            "listeners": [_build_listener(name, port, log, name in responses) for name, port in listeners.items()],
            "clusters": [original_dst, static, *(_build_picker_cluster(*picker) for picker in pickers.items())],
        },
    }


_UNLIMITED_CIRCUIT_BREAKERS: Json = {
    "thresholds": [
        {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 100}
    ]
}


def _build_listener(name: str, port: int, log: bool, responses: bool) -> Json:
    router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
    direct = name == "direct"
    manager = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "generate_request_id": True,
        "access_log": [_build_access_log()] if log and name == "picked" else [],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "direct" if direct else "pool", "timeout": "60s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [router] if direct else [_build_ext_proc_filter(name, responses), router],
    }
    return {
        "name": name,
        "address": _socket_address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _build_ext_proc_filter(picker: str, responses: bool) -> Json:
    mode = {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND" if responses else "SKIP",
        "response_body_mode": "FULL_DUPLEX_STREAMED" if responses else "NONE",
        "response_trailer_mode": "SEND" if responses else "SKIP",
    }
    config = {
        "@type": f"{_TYPE}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": picker}, "timeout": "60s"},
        "processing_mode": mode,
        "message_timeout": "60s",
    }
    return {"name": "picker", "typed_config": config}


def _build_access_log() -> Json:
    common = {
        "log_name": "epp",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "picked"}},
        "buffer_flush_interval": "0.02s",
    }
    config = {"@type": f"{_TYPE}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", "common_config": common}
    return {"name": "log", "typed_config": config}


def _build_picker_cluster(name: str, port: int) -> Json:
    options = {
        "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"initial_stream_window_size": 65_536, "initial_connection_window_size": 1 << 20}
        },
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": _UNLIMITED_CIRCUIT_BREAKERS,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": _build_load_assignment(name, "127.0.0.1", port),
    }


def _build_load_assignment(name: str, host: str, port: int) -> Json:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket_address(host, port)}}]}],
    }


def _socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
