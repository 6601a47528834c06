"""Messages of grpc.health.v1 and of Envoy's access log service."""

from __future__ import annotations

import pytest

from epp.errors import DecodeError
from epp.pb import access_log_service_pb2, health_pb2
from epp.services import codec

POD = "10.0.0.1:8000"


def test_health_messages():
    assert (
        codec.decode_health_check(health_pb2.HealthCheckRequest(service="readiness").SerializeToString()) == "readiness"
    )
    assert codec.decode_health_check(b"") == ""
    with pytest.raises(DecodeError, match="HealthCheckRequest"):
        codec.decode_health_check(b"\xff")
    check = health_pb2.HealthCheckResponse
    assert check.FromString(codec.encode_health_status(True)).status == check.SERVING
    assert check.FromString(codec.encode_health_status(False)).status == check.NOT_SERVING
    listed = health_pb2.HealthListResponse.FromString(codec.encode_health_list({"": True, "readiness": False}))
    assert {name: each.status for name, each in listed.statuses.items()} == {"": 1, "readiness": 2}


def log_message() -> access_log_service_pb2.StreamAccessLogsMessage:
    """One finished request as Envoy logs it."""
    message = access_log_service_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.request.request_id = "id-1"
    entry.response.response_code.value = 200
    entry.response.response_body_bytes = 1234
    common = entry.common_properties
    common.start_time.FromJsonString("2026-01-01T00:00:00.5Z")
    common.duration.FromMilliseconds(1500)
    common.time_to_first_upstream_rx_byte.FromMilliseconds(250)
    common.upstream_remote_address.socket_address.address = "10.0.0.1"
    common.upstream_remote_address.socket_address.port_value = 8000
    return message


def test_log_entry_of_a_finished_request():
    [entry] = codec.decode_log_entries(log_message().SerializeToString())
    assert (entry.request_id, entry.status, entry.upstream, entry.response_bytes) == ("id-1", 200, POD, 1234)
    assert (entry.started_at, entry.duration_seconds, entry.ttfb_seconds) == (1767225600.5, 1.5, 0.25)
    assert entry.disconnected is False


def test_log_entry_of_a_request_without_upstream():
    message = access_log_service_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.response.response_code.value = 503
    [found] = codec.decode_log_entries(message.SerializeToString())
    assert (found.upstream, found.ttfb_seconds, found.duration_seconds, found.disconnected) == ("", None, 0.0, False)


def test_ipv6_upstream_is_in_brackets():
    message = log_message()
    message.http_logs.log_entry[0].common_properties.upstream_remote_address.socket_address.address = "2001:db8::1"
    assert codec.decode_log_entries(message.SerializeToString())[0].upstream == "[2001:db8::1]:8000"


def test_intermediate_log_entries_are_skipped():
    message = log_message()
    message.http_logs.log_entry[0].common_properties.intermediate_log_entry = True
    assert codec.decode_log_entries(message.SerializeToString()) == []


@pytest.mark.parametrize(
    ("flag", "status", "disconnected"),
    [
        ("downstream_connection_termination", 200, True),
        ("downstream_remote_reset", 0, True),
        ("upstream_remote_reset", 200, True),
        ("upstream_connection_termination", 200, True),
        ("upstream_connection_termination", 503, False),  # Envoy's own answer was complete
        ("upstream_connection_failure", 503, False),
        ("duration_timeout", 200, True),
        ("stream_idle_timeout", 504, False),
    ],
)
def test_response_flags_that_mean_disconnected(flag, status, disconnected):
    message = log_message()
    entry = message.http_logs.log_entry[0]
    entry.response.response_code.value = status
    setattr(entry.common_properties.response_flags, flag, True)
    assert codec.decode_log_entries(message.SerializeToString())[0].disconnected is disconnected


def test_malformed_log_message_is_a_decode_error():
    with pytest.raises(DecodeError, match="StreamAccessLogsMessage"):
        codec.decode_log_entries(b"\xff")
