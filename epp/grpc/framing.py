"""gRPC over HTTP/2 (gRPC's PROTOCOL-HTTP2.md): response header blocks, and message compression.

Response header blocks are encoded as literals without indexing, which needs no HPACK encoder state; so the frequent
ones are constants.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import IntEnum
from urllib.parse import quote_from_bytes

from hpack.hpack import encode_integer

HeaderField = tuple[bytes, bytes]

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS  # plus 16: zlib expects the gzip format
MAX_STATUS_MESSAGE_SIZE = 1024  # octets of UTF-8, before percent-encoding
# Status-Message: printable ASCII characters except % are not percent-encoded.
_UNESCAPED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class StatusCode(IntEnum):
    """The gRPC status codes that transports and services use."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class RpcError(Exception):
    """An error of one RPC: it ends with `status`, and `reason` as grpc-message. Its connection is not affected."""

    def __init__(self, status: StatusCode, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status.name}: {reason}")


def encode_literal_field(name: bytes, value: bytes) -> bytes:
    """One header field, literal without indexing, no Huffman coding (RFC 7541, 6.2.2)."""
    return b"\0" + bytes(encode_integer(len(name), 7)) + name + bytes(encode_integer(len(value), 7)) + value


def encode_http_response(http_status: int, fields: Sequence[HeaderField] = ()) -> bytes:
    """Header block of an HTTP response without a body."""
    return encode_literal_field(b":status", b"%d" % http_status) + _encode_fields(fields)


def encode_trailers(status: int, message: str = "") -> bytes:
    """Header block of gRPC trailers: grpc-status, and grpc-message, percent-encoded and truncated."""
    block = encode_literal_field(b"grpc-status", b"%d" % status)
    if message:
        utf8 = message.encode("utf-8", "replace")[:MAX_STATUS_MESSAGE_SIZE]
        block += encode_literal_field(b"grpc-message", quote_from_bytes(utf8, safe=_UNESCAPED).encode("ascii"))
    return block


def encode_trailers_only(status: int, message: str, fields: Sequence[HeaderField] = ()) -> bytes:
    """Header block of a Trailers-Only response: response headers and trailers in one, no messages."""
    return RESPONSE_HEADERS_BLOCK + encode_trailers(status, message) + _encode_fields(fields)


def _encode_fields(fields: Sequence[HeaderField]) -> bytes:
    return b"".join(encode_literal_field(*field) for field in fields)


# 0x88 is `:status: 200` in the static table (RFC 7541, appendix A).
RESPONSE_HEADERS_BLOCK = b"\x88" + encode_literal_field(b"content-type", b"application/grpc")
OK_TRAILERS_BLOCK = encode_trailers(StatusCode.OK)


def decompress_gzip(data: bytes, max_size: int) -> bytes:
    """The decompressed message. Raises RpcError; never produces more than `max_size` + 1 octets (gzip bombs)."""
    inflater = zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        message = inflater.decompress(data, max_size + 1)
    except zlib.error as error:
        raise RpcError(StatusCode.INTERNAL, f"message is not gzip: {error}") from error
    if len(message) > max_size:
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"decompressed message is larger than {max_size} bytes")
    if not inflater.eof or inflater.unused_data:
        raise RpcError(StatusCode.INTERNAL, "message is not exactly one gzip member")
    return message
