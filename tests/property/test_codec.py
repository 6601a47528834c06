"""The codec decodes every message, valid or not, to the same result as protobuf."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from epp.errors import DecodeError
from epp.extproc.codec import Codec, ProcessingRequest
from epp.extproc.codec.decode import decode_with_protobuf
from epp.pb import ext_proc_pb2 as pb
from epp.pb.core_pb2 import HeaderMap, HeaderValue

CODEC = Codec()
names = st.text("abcXY:-\u00e9", max_size=6) | st.sampled_from([":path", "cookie", "x" * 127, "x" * 128])
values = st.binary(max_size=6) | st.sampled_from([b"v" * 120, b"v" * 127, b"v" * 200, b"v" * 20_000, b"\xff"])
header = st.builds(HeaderValue, key=names, raw_value=values, value=st.sampled_from(["", "", "text"]))
http_headers = st.builds(
    pb.HttpHeaders, headers=st.builds(HeaderMap, headers=st.lists(header, max_size=5)), end_of_stream=st.booleans()
)
bodies = st.builds(
    pb.HttpBody,
    body=st.binary(max_size=5) | st.sampled_from([b"x" * 125, b"x" * 128, b"x" * 70_000]),
    end_of_stream=st.booleans(),
    end_of_stream_without_message=st.sampled_from([False, False, True]),
)
phases = st.one_of(
    st.builds(pb.ProcessingRequest, request_headers=http_headers),
    st.builds(pb.ProcessingRequest, response_headers=http_headers),
    st.builds(pb.ProcessingRequest, request_body=bodies),
    st.builds(pb.ProcessingRequest, response_body=bodies),
    st.builds(pb.ProcessingRequest, request_trailers=st.just(pb.HttpTrailers())),
)


@st.composite
def received(draw):
    """A message, with or without context; perhaps followed by one more, which protobuf merges into it."""
    message = draw(phases)
    if draw(st.booleans()):
        message.metadata_context.SetInParent()
    if draw(st.booleans()):
        message.metadata_context.filter_metadata["envoy.lb"].update({"key": "value"})
    if draw(st.booleans()):
        message.protocol_config.request_body_mode = draw(st.integers(0, 4))
    message.observability_mode = draw(st.booleans())
    more = draw(phases).SerializeToString() if draw(st.integers(0, 3)) == 0 else b""
    return message.SerializeToString() + more


def decode_or_error(decode, data: bytes) -> ProcessingRequest | str:
    """The message, or a text for DecodeError."""
    try:
        return decode(data)
    except DecodeError:
        return "DecodeError"


@settings(deadline=None)
@given(received())
def test_valid_messages(data):
    assert decode_or_error(CODEC.decode, data) == decode_or_error(decode_with_protobuf, data)


@settings(deadline=None)
@given(received(), st.integers(0, 200), st.binary(max_size=3))
def test_damaged_messages(data, at, other):
    damaged = data[:at] + other + data[at + len(other) :]
    assert decode_or_error(CODEC.decode, damaged) == decode_or_error(decode_with_protobuf, damaged)
    assert decode_or_error(CODEC.decode, data[:at]) == decode_or_error(decode_with_protobuf, data[:at])


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes(data):
    for tag in (b"", b"\x12", b"\x1a", b"\x22", b"\x2a"):
        assert decode_or_error(CODEC.decode, tag + data) == decode_or_error(decode_with_protobuf, tag + data)


@st.composite
def similar_blocks(draw):
    """Blocks of equal names and sizes; values are equal or not, and some look like encoded headers."""
    fields = st.tuples(st.sampled_from(["a", "date", "content-length", "x-request-id", "b", "n" * 40]), values)
    shape = draw(st.lists(fields, min_size=1, max_size=5, unique_by=lambda field: field[0]))
    blocks = [shape]
    for _ in range(draw(st.integers(1, 3))):
        block = [
            (name, draw(st.just(value) | values_of_same_size(value))) for name, value in draw(st.sampled_from(blocks))
        ]
        blocks.append(block)
    return [HeaderMap(headers=[HeaderValue(key=name, raw_value=value) for name, value in block]) for block in blocks]


def values_of_same_size(value: bytes) -> st.SearchStrategy[bytes]:
    forged = HeaderValue(key="a", raw_value=b"v" * max(0, len(value) - 7)).SerializeToString()
    forgeries = [b"\x0a" + bytes([len(forged)]) + forged] if len(value) < 120 else []
    fitting = [forgery for forgery in forgeries if len(forgery) == len(value)]
    return st.sampled_from([bytes(len(value)), b"\x0a" * len(value), b"w" * len(value), *fitting])


@settings(deadline=None)
@given(similar_blocks())
def test_header_blocks_of_one_layout(blocks):
    for block in blocks:
        data = pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=block)).SerializeToString()
        assert decode_or_error(CODEC.decode, data) == decode_or_error(decode_with_protobuf, data)


def test_envoys_usual_messages_take_the_fast_path():
    """Otherwise the tests above would compare protobuf with itself."""
    fields = [HeaderValue(key=":path", raw_value=b"/v1/completions"), HeaderValue(key="token", raw_value=b"t" * 500)]
    http_headers = pb.HttpHeaders(headers=HeaderMap(headers=fields))
    for message in (
        pb.ProcessingRequest(
            request_headers=http_headers, protocol_config=pb.ProtocolConfiguration(request_body_mode=4)
        ),
        pb.ProcessingRequest(response_headers=http_headers),
        pb.ProcessingRequest(request_body=pb.HttpBody(body=b"x" * 4096)),
        pb.ProcessingRequest(response_body=pb.HttpBody(end_of_stream=True)),
    ):
        message.metadata_context.SetInParent()
        assert CODEC._decode_fast(message.SerializeToString()) is not None
