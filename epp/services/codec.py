"""Messages of grpc.health.v1 and of Envoy's access log service: bytes to plain values and back."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from epp.address import join_host_port
from epp.errors import DecodeError
from epp.pb import access_log_pb2, access_log_service_pb2, health_pb2
from epp.requestcontrol.completion import AccessLogEntry


def decode_health_check(data: bytes) -> str:
    """The service name in a HealthCheckRequest; raises DecodeError."""
    try:
        return health_pb2.HealthCheckRequest.FromString(data).service
    except Exception as error:  # protobuf's C extension has no public type for its decode error
        raise DecodeError(f"not a HealthCheckRequest: {error}") from error


def encode_health_status(serving: bool) -> bytes:
    """A HealthCheckResponse: SERVING or NOT_SERVING."""
    return _build_health_response(serving).SerializeToString()


def encode_health_list(serving: Mapping[str, bool]) -> bytes:
    """A HealthListResponse: the status of each service by its name."""
    statuses = {name: _build_health_response(each) for name, each in serving.items()}
    return health_pb2.HealthListResponse(statuses=statuses).SerializeToString()


def _build_health_response(serving: bool) -> health_pb2.HealthCheckResponse:
    response = health_pb2.HealthCheckResponse
    return response(status=response.SERVING if serving else response.NOT_SERVING)


def decode_log_entries(data: bytes) -> list[AccessLogEntry]:
    """The requests that ended, from one StreamAccessLogsMessage; raises DecodeError.

    Intermediate entries, about requests still in flight, are skipped.
    """
    try:
        message = access_log_service_pb2.StreamAccessLogsMessage.FromString(data)
    except Exception as error:  # protobuf's C extension has no public type for its decode error
        raise DecodeError(f"not a StreamAccessLogsMessage: {error}") from error
    return [
        _build_log_entry(entry)
        for entry in message.http_logs.log_entry
        if not entry.common_properties.intermediate_log_entry
    ]


def _build_log_entry(entry: access_log_pb2.HTTPAccessLogEntry) -> AccessLogEntry:
    common, response = entry.common_properties, entry.response
    upstream = common.upstream_remote_address.socket_address
    first_byte = common.time_to_first_upstream_rx_byte if common.HasField("time_to_first_upstream_rx_byte") else None
    # Older Envoys have no `duration`.
    duration = common.duration if common.HasField("duration") else common.time_to_last_downstream_tx_byte
    status = response.response_code.value
    return AccessLogEntry(
        request_id=entry.request.request_id,
        status=status,
        upstream=join_host_port(upstream.address, upstream.port_value) if upstream.address else "",
        started_at=common.start_time.seconds + common.start_time.nanos / 1e9,
        duration_seconds=_to_seconds(duration),
        ttfb_seconds=None if first_byte is None else _to_seconds(first_byte),
        response_bytes=response.response_body_bytes,
        disconnected=common.HasField("response_flags") and _is_disconnected(common.response_flags, status),
    )


def _is_disconnected(flags: access_log_pb2.ResponseFlags, status: int) -> bool:
    """Whether the client left (flags DC, DR in Envoy's %RESPONSE_FLAGS%) or the response was cut off (UR, UC, SI, DT).

    An upstream failure before the response begins makes Envoy answer with a 5xx, which is a complete response.
    """
    if flags.downstream_connection_termination or flags.downstream_remote_reset:
        return True
    upstream = flags.upstream_remote_reset or flags.upstream_connection_termination
    return status < 500 and (upstream or flags.stream_idle_timeout or flags.duration_timeout)


def _to_seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
