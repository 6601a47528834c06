"""Reads the protobuf fields that Envoy sends with every request, without protobuf's objects: a third of the time.

Protobuf's wire format (protobuf.dev/programming-guides/encoding): a field is a tag, which is the field number << 3 | 2
for everything that has a length, then the length as a varint, then that many bytes. The format allows more than Envoy
uses: fields in any order, repeated, in parts, unknown. These functions return None for everything that does not have
the form in which Envoy writes it; the caller then parses with protobuf.
"""

from __future__ import annotations

from typing import Final

FIELD_1_TAG: Final = 0x0A  # HttpBody.body, HttpHeaders.headers, HeaderMap.headers, HeaderValue.key
BODY_END_OF_STREAM: Final = b"\x10\x01"  # HttpBody.end_of_stream = true
HEADERS_END_OF_STREAM: Final = b"\x18\x01"  # HttpHeaders.end_of_stream = true


def field_bounds(data: bytes, at: int) -> tuple[int, int]:
    """Start and end offset of the content of the field whose tag is at `at`.

    Raises IndexError where the length is cut off or has more than five bytes. `stop` may lie beyond the data.
    """
    size = data[at + 1]
    if size < 0x80:
        return at + 2, at + 2 + size
    more = data[at + 2]
    size = size & 0x7F | (more & 0x7F) << 7
    if more < 0x80:
        return at + 3, at + 3 + size
    for shift in (14, 21, 28):
        at += 1
        more = data[at + 2]
        size |= (more & 0x7F) << shift
        if more < 0x80:
            return at + 3, at + 3 + size
    raise IndexError


def parse_phase(data: bytes, end_of_stream: bytes) -> tuple[bytes, bool, int] | None:
    """The HttpBody or HttpHeaders with which a ProcessingRequest begins: content, end_of_stream, and where it stops.

    The content is field 1: the bytes of a body, or a serialized HeaderMap. `end_of_stream` is that flag as the message
    encodes it.
    """
    size = data[1]
    start, stop = (2, 2 + size) if size < 0x80 else field_bounds(data, 0)
    if start == stop:
        return b"", False, stop
    if data[start] != FIELD_1_TAG:
        return (b"", True, stop) if data[start:stop] == end_of_stream else None
    start, end = field_bounds(data, start)
    if end == stop:
        return data[start:end], False, stop
    return (data[start:end], True, stop) if data[end:stop] == end_of_stream else None
