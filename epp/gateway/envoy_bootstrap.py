"""Envoy's bootstrap configuration for the gateway, as plain data.

Settings follow from experiments with real Envoy (docs/envoy.md), which differs from its reference in places: no timeout
applies to a full-duplex ext_proc stream, a gRPC error after the first body byte is a 5xx even with
`failure_mode_allow`, and a client's own destination header is used unless it is removed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from epp.address import parse_ip_literal, split_host_port
from epp.errors import ConfigError, Problem
from epp.gateway.clusters import (
    ACCESS_LOG_CLUSTER,
    EXT_PROC_RETRY_POLICY,
    PICKER_CLUSTER,
    POOL_CLUSTER,
    build_access_log_cluster,
    build_original_dst_pool,
    build_picker_cluster,
    build_static_pool,
    pack_any,
)
from epp.headers import (
    DESTINATION_ENDPOINT_SUBSET,
    LB_NAMESPACE,
    RESERVED_HEADERS,
    SUBSET_HINT_NAMESPACE,
    TEST_SERVED_ENDPOINT,
)

Json = dict[str, Any]
CompletionMode = Literal["access-log", "extproc", "scrape"]
BodyModeName = Literal["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED"]
PoolShape = Literal["override_host", "original_dst"]

# Removed from clients' requests: they would override the picker's choice, or make a model server connect to an address
# that the client chose.
STRIPPED_HEADERS = tuple(sorted(RESERVED_HEADERS | {TEST_SERVED_ENDPOINT}))
_HTTP_FILTERS = "envoy.extensions.filters.http"


class EnvoySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the gateway's Envoy. Times in seconds, sizes in bytes; ports may be 0 (the system chooses).

    `picker_address`: `ip:port` of the picker; empty: no picker, round robin over `endpoints`.
    `shape`: cluster type of the pool: `override_host` if Envoy knows the endpoints, `original_dst` if only the picker
    does.
    `fallback`: load balancing of `override_host` for requests without the picker's choice.
    `observe_responses`: the picker gets the response phase of all requests, even if `completion` does not need it.
    `fail_open`: while the picker is down, requests go to an endpoint chosen by `fallback`; not with `original_dst`, nor
    with STREAMED bodies.
    `idle_timeout` ends a request on which nothing has moved for that long, including one that waits for the picker: no
    other limit of Envoy bounds a picker that hangs.
    `retries`: attempts on other endpoints after a failed connection or one of `retry_statuses`.
    `retry_buffer`: largest request body that can be sent a second time.
    `upstream_idle_timeout` must be shorter than the model server's keep-alive (5 s for uvicorn), or requests are sent
    on connections that the server is closing.
    `subset_header`: request header with the subset hint, for gateways whose clients are trusted.
    """

    host: str = "127.0.0.1"
    port: int = 8081
    admin_port: int = 0
    picker_address: str = ""
    picker_tls: bool = False
    endpoints: tuple[str, ...] = ()
    shape: PoolShape = "override_host"
    fallback: Literal["least_request", "round_robin"] = "least_request"
    fail_open: bool = False
    completion: CompletionMode = "access-log"
    observe_responses: bool = False
    body_mode: BodyModeName = "FULL_DUPLEX_STREAMED"
    timeout: float = 3600.0
    idle_timeout: float = 600.0
    connect_timeout: float = 2.0
    upstream_idle_timeout: float = 4.0
    retries: int = 2
    retry_statuses: tuple[int, ...] = (503,)
    buffer_limit: int = 1 << 20
    retry_buffer: int = 64 << 20
    health_interval: float = 1.0
    log_flush_interval: float = 0.02
    subset_header: str = ""
    trust_request_id: bool = False

    def validate(self) -> None:
        """Raises ConfigError that names every contradiction."""
        problems = []
        if self.fail_open and self.shape == "original_dst":
            problems.append(Problem("fail_open", "not possible with original_dst: only the picker knows the endpoints"))
        if self.fail_open and self.body_mode == "STREAMED":
            problems.append(
                Problem("fail_open", "not possible with STREAMED: Envoy would send parts of the body twice")
            )
        if not self.picker_address and self.shape == "original_dst":
            problems.append(Problem("shape", "original_dst needs a picker: Envoy does not know the endpoints"))
        for address in (*self.endpoints, *([self.picker_address] if self.picker_address else [])):
            try:
                parse_ip_literal(split_host_port(address)[0])
            except ValueError as error:
                problems.append(Problem(address, str(error)))
        if problems:
            raise ConfigError(problems, "gateway")


def build_bootstrap(settings: EnvoySettings) -> Json:
    """The bootstrap in JSON form. Raises ConfigError."""
    settings.validate()
    if settings.shape == "original_dst":
        pool = build_original_dst_pool(settings.connect_timeout, settings.upstream_idle_timeout)
    else:
        pool = build_static_pool(
            settings.endpoints,
            settings.connect_timeout,
            settings.upstream_idle_timeout,
            settings.fallback if settings.picker_address else "round_robin",
            override=bool(settings.picker_address),
        )
    clusters = [pool]
    if settings.picker_address:
        clusters.append(build_picker_cluster(settings.picker_address, settings.picker_tls, settings.health_interval))
        if settings.completion == "access-log":
            clusters.append(build_access_log_cluster(settings.picker_address, settings.picker_tls))
    return {
        "admin": {"address": _socket_address("127.0.0.1", settings.admin_port)},
        "static_resources": {"listeners": [_build_listener(settings)], "clusters": clusters},
    }


def _socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _format_duration(value: float) -> str:
    return f"{value:.3f}s"


def _build_listener(settings: EnvoySettings) -> Json:
    buffered = settings.picker_address and settings.body_mode == "BUFFERED"
    return {
        "name": "gateway",
        "address": _socket_address(settings.host, settings.port),
        # Envoy itself answers a BUFFERED body above this limit with 413.
        "per_connection_buffer_limit_bytes": settings.retry_buffer if buffered else settings.buffer_limit,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": _build_connection_manager(settings)}]}],
    }


def _build_connection_manager(settings: EnvoySettings) -> Json:
    manager = pack_any(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="AUTO",
        # The limits for untrusted clients follow Envoy's "Configuring Envoy as an edge proxy"; times and windows are
        # larger, for long responses and long prompts.
        # use_remote_address makes every client external: x-envoy-* headers are dropped and x-request-id is replaced.
        use_remote_address=True,
        generate_request_id=True,
        preserve_external_request_id=settings.trust_request_id,
        normalize_path=True,
        server_header_transformation="PASS_THROUGH",
        common_http_protocol_options={"idle_timeout": "3600s", "headers_with_underscores_action": "REJECT_REQUEST"},
        stream_idle_timeout=_format_duration(settings.idle_timeout),
        request_headers_timeout="30s",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        http2_protocol_options={
            "max_concurrent_streams": 1024,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 16 << 20,
        },
        route_config={
            "name": "routes",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_build_route(settings)]}],
        },
        http_filters=_build_http_filters(settings),
    )
    if settings.picker_address and settings.completion == "access-log":
        manager["access_log"] = [_build_access_log(settings)]
    return manager


def _build_route(settings: EnvoySettings) -> Json:
    action: Json = {
        "cluster": POOL_CLUSTER,
        "timeout": _format_duration(settings.timeout),
        "idle_timeout": _format_duration(settings.idle_timeout),
    }
    if settings.retries:
        retry_on = "connect-failure,refused-stream,reset-before-request"
        policy: Json = {"num_retries": settings.retries, "retry_back_off": {"base_interval": "0.025s"}}
        if settings.retry_statuses:
            retry_on += ",retriable-status-codes"
            policy["retriable_status_codes"] = list(settings.retry_statuses)
        if settings.shape == "override_host":
            # Applies to the fallback policy only: a list of endpoints from the picker is tried in its order.
            policy["retry_host_predicate"] = [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": pack_any("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                }
            ]
            policy["host_selection_retry_max_attempts"] = 5
        action["retry_policy"] = {"retry_on": retry_on, **policy}
    return {"match": {"prefix": "/"}, "route": action, "request_body_buffer_limit": settings.retry_buffer}


def _build_http_filters(settings: EnvoySettings) -> list[Json]:
    filters = []
    if settings.subset_header:
        filters.append(_build_subset_filter(settings.subset_header))
    removed = [*STRIPPED_HEADERS, *([settings.subset_header] if settings.subset_header else [])]
    mutations = {"request_mutations": [{"remove": name} for name in removed]}
    filters.append(
        {
            "name": "strip",
            "typed_config": pack_any(f"{_HTTP_FILTERS}.header_mutation.v3.HeaderMutation", mutations=mutations),
        }
    )
    if settings.picker_address:
        filters.append({"name": "picker", "typed_config": _build_ext_proc_config(settings)})
    filters.append(
        {"name": "router", "typed_config": pack_any(f"{_HTTP_FILTERS}.router.v3.Router", suppress_envoy_headers=True)}
    )
    return filters


def _build_subset_filter(header: str) -> Json:
    rule = {
        "header": header,
        "on_header_present": {
            "metadata_namespace": SUBSET_HINT_NAMESPACE,
            "key": DESTINATION_ENDPOINT_SUBSET,
            "type": "STRING",
        },
    }
    config = pack_any(f"{_HTTP_FILTERS}.header_to_metadata.v3.Config", request_rules=[rule])
    return {"name": "subset", "typed_config": config}


def _build_ext_proc_config(settings: EnvoySettings) -> Json:
    duplex = settings.body_mode == "FULL_DUPLEX_STREAMED"
    mode = {
        "request_header_mode": "SEND",
        "request_body_mode": settings.body_mode,
        "request_trailer_mode": "SEND" if duplex else "SKIP",
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
        "response_trailer_mode": "SKIP",
    }
    if settings.completion == "extproc" or settings.observe_responses:
        mode["response_header_mode"] = "SEND"
        mode["response_body_mode"] = "FULL_DUPLEX_STREAMED" if duplex else "STREAMED"
        mode["response_trailer_mode"] = "SEND" if duplex else "SKIP"
    return pack_any(
        f"{_HTTP_FILTERS}.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": PICKER_CLUSTER}, "retry_policy": EXT_PROC_RETRY_POLICY},
        failure_mode_allow=settings.fail_open,
        status_on_error={"code": "ServiceUnavailable"},
        processing_mode=mode,
        # Not enforced in full duplex; in other modes it must exceed the picker's own decision timeout.
        message_timeout=_format_duration(settings.idle_timeout),
        metadata_options={
            "forwarding_namespaces": {"untyped": [LB_NAMESPACE, SUBSET_HINT_NAMESPACE]},
            "receiving_namespaces": {"untyped": [LB_NAMESPACE]},
        },
    )


def _build_access_log(settings: EnvoySettings) -> Json:
    common: Mapping[str, Any] = {
        "log_name": "epp",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": ACCESS_LOG_CLUSTER}},
        "buffer_flush_interval": _format_duration(settings.log_flush_interval),
        # Entries above this size are dropped while the picker reads slowly; the default of 16 KiB is about 30 entries.
        "buffer_size_bytes": 1 << 20,
    }
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": pack_any(
            "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", common_config=common
        ),
    }
