"""Replies around pieces of bodies, framed by hand: protobuf copies a piece three times on its way, this once."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from epp.extproc.codec.decode import Incoming, body_fields

# Wire format: tag (field number << 3 | 2), length, that many bytes. ProcessingResponse.request_body is field 3,
# response_body field 4; in it response = 1, body_mutation = 3, streamed_response = 3, and there body = 1.
_REQUEST_BODY: Final = b"\x1a"
_RESPONSE_BODY: Final = b"\x22"
_RESPONSE: Final = b"\x0a"
_BODY_MUTATION: Final = b"\x1a"
_STREAMED_RESPONSE: Final = b"\x1a"
_BODY: Final = b"\x0a"
_END_OF_STREAM: Final = b"\x10\x01"


def request_piece(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the request body on its way to the model server, in full duplex."""
    return b"".join((_head(_REQUEST_BODY, len(piece), end), piece, _END_OF_STREAM if end else b""))


def response_piece(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the response body on its way to the client, in full duplex."""
    if end:
        return b"".join((_head(_RESPONSE_BODY, len(piece), True), piece, _END_OF_STREAM))
    return _head(_RESPONSE_BODY, len(piece), False) + piece


def request_message(message: Incoming) -> bytes:
    """A piece of the request body as it came with all its flags; StreamedBodyResponse has the same fields."""
    fields = body_fields(message)
    return _wrapped(_REQUEST_BODY, b"", len(fields)) + fields


def response_message(message: Incoming) -> bytes:
    """The same for the response body."""
    fields = body_fields(message)
    return _wrapped(_RESPONSE_BODY, b"", len(fields)) + fields


@lru_cache(1024)
def _head(tag: bytes, length: int, end: bool) -> bytes:
    """All that stands before the piece. Answers come in pieces of few sizes, and requests in pieces of one."""
    tail = len(_END_OF_STREAM) if end else 0
    return _wrapped(tag, _BODY + _varint(length) if length else b"", length + tail)


def _wrapped(tag: bytes, head: bytes, rest: int) -> bytes:
    """`head` with its frames before it; `rest` bytes will follow it."""
    for outer in (_STREAMED_RESPONSE, _BODY_MUTATION, _RESPONSE, tag):
        head = outer + _varint(len(head) + rest) + head
    return head


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
