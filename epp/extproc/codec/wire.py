"""Envoy's messages as Envoy itself writes them, read by hand: a third of what protobuf's objects cost to look into.

Protobuf allows much more than Envoy makes use of: any order of fields, fields in pieces, fields that we do not know.
Whatever is not in the usual form gives None here, and is protobuf's to read. Wire format: a tag (field number << 3 | 2
for anything with a length), the length, that many bytes.
"""

from __future__ import annotations

from typing import Final

FIELD_1_TAG: Final = (
    0x0A  # field 1 with a length: HttpBody.body, HttpHeaders.headers, HeaderMap.headers, HeaderValue.key
)
BODY_END_OF_STREAM: Final = b"\x10\x01"
HEADERS_END_OF_STREAM: Final = b"\x18\x01"


def field_bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the field at `at` starts and stops. Raises IndexError where that cannot be told."""
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
    raise IndexError  # no message of Envoy's is longer than that


def parse_phase(data: bytes, ends: bytes) -> tuple[bytes, bool, int] | None:
    """The phase that a message begins with: a body's bytes or a HeaderMap, whether it is the last, and where it stops.

    HttpBody and HttpHeaders have their content in field 1, and after it `ends` or nothing.
    """
    size = data[1]
    start, stop = (2, 2 + size) if size < 0x80 else field_bounds(data, 0)
    if start == stop:
        return b"", False, stop
    if data[start] != FIELD_1_TAG:
        return (b"", True, stop) if data[start:stop] == ends else None
    start, end = field_bounds(data, start)
    if end == stop:
        return data[start:end], False, stop
    return (data[start:end], True, stop) if data[end:stop] == ends else None
