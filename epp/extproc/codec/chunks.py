"""Replies around pieces of bodies, framed by hand: protobuf copies a piece three times on its way, this once."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from epp.extproc.codec.decode import ProcessingRequest, serialize_http_body

# Wire format: tag (field number << 3 | 2), length, that many bytes. ProcessingResponse.request_body is field 3,
# response_body field 4; in it response = 1, body_mutation = 3, streamed_response = 3, and there body = 1.
_REQUEST_BODY: Final = b"\x1a"
_RESPONSE_BODY: Final = b"\x22"
_RESPONSE: Final = b"\x0a"
_BODY_MUTATION: Final = b"\x1a"
_STREAMED_RESPONSE: Final = b"\x1a"
_BODY: Final = b"\x0a"
_END_OF_STREAM: Final = b"\x10\x01"


def request_body_chunk(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the request body on its way to the model server, in full duplex."""
    return b"".join((_chunk_prefix(_REQUEST_BODY, len(piece), end), piece, _END_OF_STREAM if end else b""))


def response_body_chunk(piece: bytes | memoryview, end: bool) -> bytes:
    """A piece of the response body on its way to the client, in full duplex."""
    if end:
        return b"".join((_chunk_prefix(_RESPONSE_BODY, len(piece), True), piece, _END_OF_STREAM))
    return _chunk_prefix(_RESPONSE_BODY, len(piece), False) + piece


def request_body_unchanged(message: ProcessingRequest) -> bytes:
    """A piece of the request body as it came with all its flags; StreamedBodyResponse has the same fields."""
    fields = serialize_http_body(message)
    return _wrap_in_frames(_REQUEST_BODY, b"", len(fields)) + fields


def response_body_unchanged(message: ProcessingRequest) -> bytes:
    """The same for the response body."""
    fields = serialize_http_body(message)
    return _wrap_in_frames(_RESPONSE_BODY, b"", len(fields)) + fields


@lru_cache(1024)
def _chunk_prefix(tag: bytes, length: int, end: bool) -> bytes:
    """All that stands before the piece. Answers come in pieces of few sizes, and requests in pieces of one."""
    tail = len(_END_OF_STREAM) if end else 0
    return _wrap_in_frames(tag, _BODY + _encode_varint(length) if length else b"", length + tail)


def _wrap_in_frames(tag: bytes, head: bytes, rest: int) -> bytes:
    """`head` with its frames before it; `rest` bytes will follow it."""
    for outer in (_STREAMED_RESPONSE, _BODY_MUTATION, _RESPONSE, tag):
        head = outer + _encode_varint(len(head) + rest) + head
    return head


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
