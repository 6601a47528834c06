"""The codec against protobuf: what it parses and frames by hand, caches or concatenates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.errors import DecodeError
from epp.extproc.codec import NO_MUTATION, BodyMode, Codec, HeaderMutation, MessageType
from epp.headers import DESTINATION_ENDPOINT
from epp.pb import ext_proc_pb2
from tests.unit.extproc.codec.conftest import POD, parse_response

CODEC = Codec()
# Body sizes at which a length in the frames around the body takes one more byte, and one byte to either side.
BORDERS = [0, 1, 100, 111, 113, 115, 117, 119, 121, 123, 125, 126, 127, 128, 129, 16_370, 16_383, 16_384, 62_000]


def encode_chunk_with_protobuf(phase: str, body: bytes, end: bool) -> bytes:
    """A chunk of full duplex as protobuf encodes it."""
    chunk = ext_proc_pb2.StreamedBodyResponse(body=body, end_of_stream=end)
    common = ext_proc_pb2.CommonResponse(body_mutation=ext_proc_pb2.BodyMutation(streamed_response=chunk))
    return ext_proc_pb2.ProcessingResponse(**{phase: ext_proc_pb2.BodyResponse(response=common)}).SerializeToString()


@pytest.mark.parametrize("size", BORDERS)
@pytest.mark.parametrize("end", [True, False])
def test_chunks_of_border_sizes_are_encoded_as_by_protobuf(size, end):
    body = b"\x0a\x80" * (size // 2) + b"x" * (size % 2)
    assert CODEC.request_body_chunk(body, end) == encode_chunk_with_protobuf("request_body", body, end)
    assert CODEC.response_body_chunk(memoryview(body), end) == encode_chunk_with_protobuf("response_body", body, end)


@given(st.binary(max_size=300), st.booleans())
def test_any_chunk_is_encoded_as_by_protobuf(body, end):
    assert CODEC.response_body_chunk(body, end) == encode_chunk_with_protobuf("response_body", body, end)


@pytest.mark.parametrize("phase", ["request_body", "response_body"])
@pytest.mark.parametrize("size", BORDERS)
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("more", [False, True])
def test_body_messages_are_decoded_as_by_protobuf(phase, size, end, more):
    message = ext_proc_pb2.ProcessingRequest(**{phase: ext_proc_pb2.HttpBody(body=b"\x2a" * size, end_of_stream=end)})
    if more:
        message.metadata_context.filter_metadata["envoy.lb"].update({"key": "value"})
        message.protocol_config.request_body_mode = 2
    found = CODEC.decode(message.SerializeToString())
    assert (found.type, found.body, found.end_of_stream) == (MessageType[phase.upper()], b"\x2a" * size, end)
    assert found.body_modes == ((BodyMode.BUFFERED, BodyMode.NONE) if more else None)


@given(st.binary(max_size=60))
def test_any_bytes_decode_as_by_protobuf_or_raise_decode_error(data):
    try:
        found = CODEC.decode(data)
    except DecodeError:
        return
    theirs = ext_proc_pb2.ProcessingRequest.FromString(data)
    assert found.type.name.lower() == theirs.WhichOneof("request")
    if found.type in {MessageType.REQUEST_BODY, MessageType.RESPONSE_BODY}:
        body = getattr(theirs, found.type.name.lower())
        assert (found.body, found.end_of_stream) == (body.body, body.end_of_stream)


@pytest.mark.parametrize("mutation", [NO_MUTATION, HeaderMutation({"a": "1", "b": "\udcff"}, ("c", "d"))])
def test_route_in_headers_sets_header_and_metadata(mutation):
    reply = parse_response(CODEC.route_in_headers(POD, mutation, None))
    common = reply.request_headers.response
    found = {item.header.key: item.header.raw_value for item in common.header_mutation.set_headers}
    wanted = {name: value.encode("utf-8", "surrogateescape") for name, value in mutation.set_headers.items()}
    assert found == {DESTINATION_ENDPOINT: POD.encode(), **wanted}
    assert tuple(common.header_mutation.remove_headers) == mutation.remove_headers
    assert common.clear_route_cache
    assert dict(reply.dynamic_metadata["envoy.lb"]) == {DESTINATION_ENDPOINT: POD}
