"""Messages of grpc.health.v1 and of Envoy's access log."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from epp.address import join_host_port
from epp.errors import DecodeError
from epp.pb import access_log_pb2, access_log_service_pb2, health_pb2
from epp.requestcontrol.completion import AccessLogEntry


def decode_health_check(data: bytes) -> str:
    """The service name that a health check asks for."""
    try:
        return health_pb2.HealthCheckRequest.FromString(data).service
    except Exception as error:
        raise DecodeError(f"no HealthCheckRequest: {error}") from error


def encode_health_status(serving: bool) -> bytes:
    """The answer to a health check."""
    return _build_health_response(serving).SerializeToString()


def encode_health_list(serving: Mapping[str, bool]) -> bytes:
    """All services at once."""
    statuses = {name: _build_health_response(well) for name, well in serving.items()}
    return health_pb2.HealthListResponse(statuses=statuses).SerializeToString()


def _build_health_response(serving: bool) -> health_pb2.HealthCheckResponse:
    status = health_pb2.HealthCheckResponse
    return status(status=status.SERVING if serving else status.NOT_SERVING)


def decode_log_entries(data: bytes) -> list[AccessLogEntry]:
    """The requests that ended, of one message of Envoy's access log; lines about running ones are left out."""
    try:
        message = access_log_service_pb2.StreamAccessLogsMessage.FromString(data)
    except Exception as error:
        raise DecodeError(f"no StreamAccessLogsMessage: {error}") from error
    return [
        _build_log_entry(entry)
        for entry in message.http_logs.log_entry
        if not entry.common_properties.intermediate_log_entry
    ]


def _build_log_entry(entry: access_log_pb2.HTTPAccessLogEntry) -> AccessLogEntry:
    common, response = entry.common_properties, entry.response
    upstream = common.upstream_remote_address.socket_address
    first_byte = common.time_to_first_upstream_rx_byte if common.HasField("time_to_first_upstream_rx_byte") else None
    status = response.response_code.value
    return AccessLogEntry(
        request_id=entry.request.request_id,
        status=status,
        upstream=join_host_port(upstream.address, upstream.port_value) if upstream.address else "",
        started_at=common.start_time.seconds + common.start_time.nanos / 1e9,
        duration_seconds=_duration_seconds(
            common.duration if common.HasField("duration") else common.time_to_last_downstream_tx_byte
        ),
        ttfb_seconds=None if first_byte is None else _duration_seconds(first_byte),
        response_bytes=response.response_body_bytes,
        disconnected=common.HasField("response_flags") and _is_disconnected(common.response_flags, status),
    )


def _is_disconnected(flags: access_log_pb2.ResponseFlags, status: int) -> bool:
    """The client left, or got less than the whole answer. What fails before it begins ends in an answer of Envoy's."""
    if flags.downstream_connection_termination or flags.downstream_remote_reset:
        return True
    upstream = flags.upstream_remote_reset or flags.upstream_connection_termination
    return status < 500 and (upstream or flags.stream_idle_timeout or flags.duration_timeout)


def _duration_seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
