"""Request headers: HPACK, the rules of HTTP/2 (RFC 9113) and of gRPC, and their limits."""

from __future__ import annotations

import hpack
import pytest

from epp.grpc.framing import encode_literal_field
from epp.grpc.http2 import frames
from epp.grpc.http2.frames import ErrorCode
from epp.grpc.http2.headers import MAX_CACHED_BLOCKS, HeaderDecoder
from epp.grpc.limits import TransportLimits
from tests.unit.grpc.http2.conftest import REQUEST


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"path": "/t/None"}, {":status": "200", "grpc-status": "12"}),
        ({"grpc_encoding": "br"}, {":status": "200", "grpc-status": "12", "grpc-accept-encoding": "identity,gzip"}),
        ({"content_type": "application/json"}, {":status": "415"}),
        ({"content_type": "application/grpc-web"}, {":status": "415"}),
        ({"drop": "content-type"}, {":status": "415"}),
        ({"method": "GET"}, {":status": "405", "allow": "POST"}),
    ],
)
def test_requests_rejected_without_a_handler(http2, fields, expected):
    peer = http2.connect()
    response = peer.send(peer.headers_frame(**fields))
    assert http2.types(response) == ["HEADERS", "RST_STREAM"]
    assert response[0].ended
    assert expected.items() <= peer.decode_fields(response[0]).items()
    assert peer.calls == []


@pytest.mark.parametrize(
    "content_type", ["application/grpc+proto", "application/grpc;charset=utf-8", "Application/gRPC"]
)
def test_content_types_of_grpc(http2, content_type):
    peer = http2.connect()
    assert http2.types(
        peer.send(peer.headers_frame(content_type=content_type) + http2.data_frame(1, http2.grpc_message(b"x")))
    ) == [
        "HEADERS",
        "DATA",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"drop": "path"},
        {"drop": "method"},
        {"drop": "scheme"},
        {"path": ""},
        {"te": "gzip"},
        {"connection": "close"},
        {"transfer_encoding": "chunked"},
        {":status": "200"},
        {":path": "/t/Record"},
    ],
)
def test_malformed_requests_are_reset(http2, fields):
    peer = http2.connect()
    assert http2.reset_code(peer.send(peer.headers_frame(**fields))) is ErrorCode.PROTOCOL_ERROR
    assert peer.calls == []


def test_upper_case_header_names_are_malformed(http2):
    peer = http2.connect()
    block = peer.header_block() + b"\0\x01A\x01b"
    assert (
        http2.reset_code(peer.send(frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 1, block)))
        is ErrorCode.PROTOCOL_ERROR
    )


def test_headers_above_the_limit_get_431_and_the_connection_continues(http2):
    peer = http2.connect(max_header_list_size=2_000)
    response = peer.send(peer.headers_frame(x_long="a" * 2_000))
    assert peer.decode_fields(response[0]) == {":status": "431"}
    assert http2.types(peer.send(peer.headers_frame(3) + http2.data_frame(3, http2.grpc_message(b"")))) == [
        "HEADERS",
        "DATA",
    ]


def test_an_hpack_bomb_ends_the_connection(http2):
    peer = http2.connect(max_header_list_size=2_000)
    peer.send(peer.headers_frame(x_long="a" * 1_000))
    encoder = hpack.Encoder()
    block = encoder.encode([("x-bomb", "a" * 1_000)])
    bomb = block + encoder.encode([("x-bomb", "a" * 1_000)]) * 100
    assert (
        http2.goaway_code(peer.send(frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 3, bomb)))
        is ErrorCode.ENHANCE_YOUR_CALM
    )


def test_a_repeated_block_is_decoded_once_until_the_dynamic_table_changes():
    encoder, decoder = hpack.Encoder(), HeaderDecoder(TransportLimits())
    block = b"".join(encode_literal_field(name.encode(), value.encode()) for name, value in REQUEST)
    first = decoder.decode_request(block)
    assert first.path == "/t/Echo"
    assert decoder.decode_request(block) is first
    decoder.decode_trailers(encoder.encode([("x-new-entry", "1")]))
    again = decoder.decode_request(block)
    assert again == first
    assert again is not first


def test_the_cache_of_blocks_is_bounded():
    decoder = HeaderDecoder(TransportLimits())
    for number in range(3 * MAX_CACHED_BLOCKS):
        decoder.decode_request(encode_literal_field(b"x-number", b"%d" % number))
    assert 0 < len(decoder._cache) <= MAX_CACHED_BLOCKS
