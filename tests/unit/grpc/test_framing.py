"""gRPC's header blocks and message compression."""

from __future__ import annotations

import gzip

import hpack
import pytest

from epp.grpc import framing
from epp.grpc.framing import MAX_STATUS_MESSAGE_SIZE, RpcError, StatusCode, decompress_gzip


def decode_fields(block: bytes) -> dict[str, str]:
    return dict(hpack.Decoder().decode(block))


def test_fields_of_any_length_are_literals_that_hpack_decodes() -> None:
    for size in (0, 126, 127, 128, 70_000):
        decoder = hpack.Decoder(max_header_list_size=100_000)
        block = framing.encode_literal_field(b"x", b"v" * size)
        assert decoder.decode(block) == [("x", "v" * size)]
        assert not decoder.header_table.dynamic_entries, "not indexed"


def test_a_status_message_is_percent_encoded_and_truncated() -> None:
    assert decode_fields(framing.encode_trailers(13, "50 % of é\n"))["grpc-message"] == "50 %25 of %C3%A9%0A"
    assert len(decode_fields(framing.encode_trailers(13, "a" * 5000))["grpc-message"]) == MAX_STATUS_MESSAGE_SIZE
    assert decode_fields(framing.OK_TRAILERS_BLOCK) == {"grpc-status": "0"}


def test_a_response_that_is_trailers_only_has_the_fields_of_both() -> None:
    block = framing.encode_trailers_only(StatusCode.UNIMPLEMENTED, "no", [(b"grpc-accept-encoding", b"gzip")])
    assert decode_fields(block) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "12",
        "grpc-message": "no",
        "grpc-accept-encoding": "gzip",
    }


def test_a_message_may_be_as_large_as_the_limit_when_decompressed() -> None:
    assert decompress_gzip(gzip.compress(bytes(1000), mtime=0), 1000) == bytes(1000)
    with pytest.raises(RpcError) as caught:
        decompress_gzip(gzip.compress(bytes(1001), mtime=0), 1000)
    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "data", [b"", b"plain", gzip.compress(b"x", mtime=0)[:-1], gzip.compress(b"x", mtime=0) + b"!"]
)
def test_a_message_that_is_not_one_gzip_member_is_an_error_of_the_rpc(data: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        decompress_gzip(data, 1000)
    assert caught.value.status is StatusCode.INTERNAL
