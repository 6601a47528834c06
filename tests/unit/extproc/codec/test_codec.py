"""What is framed by hand, kept or concatenated, against protobuf's own reading and writing of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.errors import DecodeError
from epp.extproc import codec
from epp.extproc.codec import BodyMode, HeaderMutation, MessageType
from epp.headers import DESTINATION_ENDPOINT
from epp.pb import access_log_service_pb2, ext_proc_pb2, health_pb2
from epp.pb.core_pb2 import HeaderValue
from epp.services import codec as services

POD = "10.0.0.1:8000"
BORDERS = [0, 1, 100, 111, 113, 115, 117, 119, 121, 123, 125, 126, 127, 128, 129, 16_370, 16_383, 16_384, 62_000]


def parsed(message: bytes) -> ext_proc_pb2.ProcessingResponse:
    return ext_proc_pb2.ProcessingResponse.FromString(message)


def streamed(phase: str, body: bytes, end: bool) -> bytes:
    """The same piece as protobuf writes it."""
    piece = ext_proc_pb2.StreamedBodyResponse(body=body, end_of_stream=end)
    common = ext_proc_pb2.CommonResponse(body_mutation=ext_proc_pb2.BodyMutation(streamed_response=piece))
    return ext_proc_pb2.ProcessingResponse(**{phase: ext_proc_pb2.BodyResponse(response=common)}).SerializeToString()


@pytest.mark.parametrize("size", BORDERS)
@pytest.mark.parametrize("end", [True, False])
def test_pieces_are_framed_as_protobuf_frames_them(size, end):
    body = b"\x0a\x80" * (size // 2) + b"x" * (size % 2)
    assert codec.request_body_chunk(body, end) == streamed("request_body", body, end)
    assert codec.response_body_chunk(memoryview(body), end) == streamed("response_body", body, end)


@given(st.binary(max_size=300), st.booleans())
def test_any_piece_is_framed_as_protobuf_frames_it(body, end):
    assert codec.response_body_chunk(body, end) == streamed("response_body", body, end)


@pytest.mark.parametrize("phase", ["request_body", "response_body"])
@pytest.mark.parametrize("size", BORDERS)
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("more", [False, True])
def test_bodies_are_read_as_protobuf_reads_them(phase, size, end, more):
    message = ext_proc_pb2.ProcessingRequest(**{phase: ext_proc_pb2.HttpBody(body=b"\x2a" * size, end_of_stream=end)})
    if more:
        message.metadata_context.filter_metadata["envoy.lb"].update({"key": "value"})
        message.protocol_config.request_body_mode = 2
    found = codec.decode(message.SerializeToString())
    assert (found.type, found.body, found.end_of_stream) == (MessageType[phase.upper()], b"\x2a" * size, end)
    assert found.body_modes == ((BodyMode.BUFFERED, BodyMode.NONE) if more else None)


def test_a_body_in_an_unusual_order_is_read_all_the_same():
    """Protobuf allows any order of fields, and fields that we do not know."""
    assert codec.decode(b"\x2a\x07\x10\x01\x0a\x01x\x20\x01").body == b"x"
    assert codec.decode(b"\x2a\x07\x10\x01\x0a\x01x\x20\x01").end_of_stream
    assert codec.decode(b"\x50\x00\x2a\x03\x0a\x01x").body == b"x"
    assert codec.decode(b"\x2a\x03\x0a\x01x\x2a\x03\x0a\x01y").body == b"y"
    assert codec.decode(b"\x2a\x03\x0a\x01x\x22\x03\x0a\x01y").type is MessageType.REQUEST_BODY
    assert codec.decode(b"\x2a\x04\x10\x01\x10\x00").end_of_stream is False


@pytest.mark.parametrize(
    "data", [b"", b"\x50\x01", b"\xff", b"\x2a", b"\x2a\x05\x0a\x01x", b"\x2a\x03\x0a\x02x", b"\x2a\xff"]
)
def test_what_is_no_message_is_not_understood(data):
    with pytest.raises(DecodeError):
        codec.decode(data)


@given(st.binary(max_size=60))
def test_nothing_but_not_understood_comes_of_any_octets(data):
    try:
        found = codec.decode(data)
    except DecodeError:
        return
    theirs = ext_proc_pb2.ProcessingRequest.FromString(data)
    assert found.type.name.lower() == theirs.WhichOneof("request")
    if found.type in {MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY}:
        piece = getattr(theirs, found.type.name.lower())
        assert (found.body, found.end_of_stream) == (piece.body, piece.end_of_stream)


def test_headers_are_lower_case_joined_and_taken_from_the_raw_value():
    message = ext_proc_pb2.ProcessingRequest()
    pairs = [
        HeaderValue(key="A", value="text"),
        HeaderValue(key="b", value="text", raw_value=b"raw"),
        HeaderValue(key="a", raw_value=b"\xff"),
        HeaderValue(key="cookie", raw_value=b"c=1"),
        HeaderValue(key="cookie", raw_value=b"d=2"),
        HeaderValue(key="empty"),
    ]
    message.request_headers.headers.headers.extend(pairs)
    message.request_headers.end_of_stream = True
    found = codec.decode(message.SerializeToString())
    assert found.headers == {"a": "text, \udcff", "b": "raw", "cookie": "c=1; d=2", "empty": ""}
    assert found.end_of_stream


@pytest.mark.parametrize("mutation", [codec.NO_MUTATION, HeaderMutation({"a": "1", "b": "\udcff"}, ("c", "d"))])
def test_the_choice_is_in_header_and_metadata(mutation):
    reply = parsed(codec.route_in_headers(POD, mutation, None))
    common = reply.request_headers.response
    found = {item.header.key: item.header.raw_value for item in common.header_mutation.set_headers}
    wanted = {name: value.encode("utf-8", "surrogateescape") for name, value in mutation.set_headers.items()}
    assert found == {DESTINATION_ENDPOINT: POD.encode(), **wanted}
    assert tuple(common.header_mutation.remove_headers) == mutation.remove_headers
    assert common.clear_route_cache
    assert dict(reply.dynamic_metadata["envoy.lb"]) == {DESTINATION_ENDPOINT: POD}


def test_a_buffered_body_is_replaced_only_if_it_has_changed():
    same = parsed(codec.route_in_body(POD, codec.NO_MUTATION, None, None)).request_body.response
    assert not same.HasField("body_mutation")
    emptied = parsed(codec.route_in_body(POD, codec.NO_MUTATION, None, b"")).request_body.response
    assert emptied.body_mutation.WhichOneof("mutation") == "body"


def test_an_answer_of_ours():
    reply = parsed(codec.immediate_response(429, b"text", {"x-llm-d-request-dropped-reason": "full"}, "epp_Code"))
    answer = reply.immediate_response
    assert (answer.status.code, answer.body, answer.details) == (429, b"text", "epp_Code")
    assert [item.header.key for item in answer.headers.set_headers] == ["x-llm-d-request-dropped-reason"]


def test_the_served_endpoint_is_text_or_nothing():
    message = ext_proc_pb2.ProcessingRequest()
    message.response_headers.end_of_stream = True
    entries = message.metadata_context.filter_metadata["envoy.lb"]
    entries.update({DESTINATION_ENDPOINT: POD})
    assert codec.parse_served_endpoint(message.metadata_context) == ""
    entries.update({f"{DESTINATION_ENDPOINT}-served": POD})
    assert codec.parse_served_endpoint(message.metadata_context) == POD
    entries.update({f"{DESTINATION_ENDPOINT}-served": 7})
    assert codec.parse_served_endpoint(message.metadata_context) == ""


def test_health_messages():
    assert (
        services.decode_health_check(health_pb2.HealthCheckRequest(service="readiness").SerializeToString())
        == "readiness"
    )
    assert services.decode_health_check(b"") == ""
    with pytest.raises(DecodeError, match="HealthCheckRequest"):
        services.decode_health_check(b"\xff")
    check = health_pb2.HealthCheckResponse
    assert check.FromString(services.encode_health_status(True)).status == check.SERVING
    assert check.FromString(services.encode_health_status(False)).status == check.NOT_SERVING
    listed = health_pb2.HealthListResponse.FromString(services.encode_health_list({"": True, "readiness": False}))
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


def test_a_line_of_the_access_log():
    [entry] = services.decode_log_entries(log_message().SerializeToString())
    assert (entry.request_id, entry.status, entry.upstream, entry.response_bytes) == ("id-1", 200, POD, 1234)
    assert (entry.started_at, entry.duration_seconds, entry.ttfb_seconds) == (1767225600.5, 1.5, 0.25)
    assert entry.disconnected is False


def test_a_line_about_a_request_that_reached_nobody():
    message = access_log_service_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    entry.response.response_code.value = 503
    [found] = services.decode_log_entries(message.SerializeToString())
    assert (found.upstream, found.ttfb_seconds, found.duration_seconds, found.disconnected) == ("", None, 0.0, False)


def test_addresses_of_ipv6_stand_in_brackets():
    message = log_message()
    message.http_logs.log_entry[0].common_properties.upstream_remote_address.socket_address.address = "2001:db8::1"
    assert services.decode_log_entries(message.SerializeToString())[0].upstream == "[2001:db8::1]:8000"


def test_lines_about_requests_that_run_are_left_out():
    message = log_message()
    message.http_logs.log_entry[0].common_properties.intermediate_log_entry = True
    assert services.decode_log_entries(message.SerializeToString()) == []


@pytest.mark.parametrize(
    ("flag", "status", "cut_short"),
    [
        ("downstream_connection_termination", 200, True),
        ("downstream_remote_reset", 0, True),
        ("upstream_remote_reset", 200, True),
        ("upstream_connection_termination", 200, True),
        ("upstream_connection_termination", 503, False),  # Envoy's answer to it was whole
        ("upstream_connection_failure", 503, False),
        ("duration_timeout", 200, True),
        ("stream_idle_timeout", 504, False),
    ],
)
def test_an_answer_that_was_cut_short(flag, status, cut_short):
    message = log_message()
    entry = message.http_logs.log_entry[0]
    entry.response.response_code.value = status
    setattr(entry.common_properties.response_flags, flag, True)
    assert services.decode_log_entries(message.SerializeToString())[0].disconnected is cut_short


def test_what_is_no_log_message_is_not_understood():
    with pytest.raises(DecodeError, match="StreamAccessLogsMessage"):
        services.decode_log_entries(b"\xff")
