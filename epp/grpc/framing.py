"""gRPC over HTTP/2: message compression, and the header blocks of answers (grpc/doc/PROTOCOL-HTTP2.md).

Header blocks are literals without indexing: they need no encoder state, so most of them are constants.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import IntEnum
from urllib.parse import quote_from_bytes

from hpack.hpack import encode_integer

HeaderField = tuple[bytes, bytes]

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
MAX_STATUS_MESSAGE_SIZE = 1024
# grpc-message leaves the printable ASCII characters but % as they are.
_UNESCAPED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class StatusCode(IntEnum):
    """The gRPC status codes used by a transport."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class RpcError(Exception):
    """The RPC ends with `status`; the connection is sound."""

    def __init__(self, status: StatusCode, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status.name}: {reason}")


def encode_literal_field(name: bytes, value: bytes) -> bytes:
    """One header field, neither indexed nor compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes(encode_integer(len(name), 7)) + name + bytes(encode_integer(len(value), 7)) + value


def encode_http_response(http_status: int, fields: Sequence[HeaderField] = ()) -> bytes:
    """Header block of an HTTP answer without a body."""
    return encode_literal_field(b":status", b"%d" % http_status) + b"".join(
        encode_literal_field(*field) for field in fields
    )


def encode_trailers(status: int, reason: str = "") -> bytes:
    """grpc-status, and grpc-message percent-encoded."""
    block = encode_literal_field(b"grpc-status", b"%d" % status)
    if reason:
        plain = reason.encode("utf-8", "replace")[:MAX_STATUS_MESSAGE_SIZE]
        block += encode_literal_field(b"grpc-message", quote_from_bytes(plain, safe=_UNESCAPED).encode("ascii"))
    return block


def encode_trailers_only(status: int, reason: str, fields: Sequence[HeaderField] = ()) -> bytes:
    """Header block of an answer that has no message: headers and trailers in one."""
    return (
        RESPONSE_HEADERS_BLOCK
        + encode_trailers(status, reason)
        + b"".join(encode_literal_field(*field) for field in fields)
    )


RESPONSE_HEADERS_BLOCK = b"\x88" + encode_literal_field(
    b"content-type", b"application/grpc"
)  # 0x88: `:status: 200` of the static table
OK_TRAILERS_BLOCK = encode_trailers(0)


def decompress_gzip(data: bytes, limit: int) -> bytes:
    """The decompressed message; never holds more than `limit` bytes and one."""
    inflater = zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise RpcError(StatusCode.INTERNAL, f"message is not gzip: {error}") from error
    if len(plain) > limit:
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, f"decompressed message is larger than {limit} bytes")
    if not inflater.eof or inflater.unused_data:
        raise RpcError(StatusCode.INTERNAL, "message is not one whole gzip member")
    return plain
