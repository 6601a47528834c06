"""Envoy's messages as Envoy itself writes them, read by hand: a third of what protobuf's objects cost to look into.

Protobuf allows much more than Envoy makes use of: any order of fields, fields in pieces, fields that we do not know.
Whatever is not in the usual form gives None here, and is protobuf's to read. Wire format: a tag (field number << 3 | 2
for anything with a length), the length, that many bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_FIRST: Final = 0x0A  # field 1 with a length: HttpBody.body, HttpHeaders.headers, HeaderMap.headers, HeaderValue.key
_RAW_VALUE: Final = 0x1A  # HeaderValue.raw_value
_BODY_ENDS: Final = b"\x10\x01"
_HEADERS_END: Final = b"\x18\x01"

# Most short headers are the same in every request. Longer ones are not, or are nothing to be kept: ids, credentials.
_SHORT: Final = 48
KEPT_HEADERS: Final = 1024


def field(data: bytes, at: int) -> tuple[int, int]:
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


def body(data: bytes, start: int, stop: int) -> tuple[bytes, bool] | None:
    """An HttpBody: its bytes, and whether they are the last."""
    if start == stop:
        return b"", False
    found = b""
    if data[start] == _FIRST:
        start, end = field(data, start)
        found = data[start:end]
        if end == stop:
            return found, False
        start = end
    return (found, True) if data[start:stop] == _BODY_ENDS else None


def headers(data: bytes, start: int, stop: int) -> tuple[dict[str, str], bool] | None:
    """HttpHeaders: values by lower-case name, and whether nothing follows them.

    None too where a name is repeated. Raises UnicodeDecodeError.
    """
    if start == stop or data[start] != _FIRST:
        return None
    at, end = field(data, start)
    found: dict[str, str] = {}
    while at < end:
        if data[at] != _FIRST:
            return None
        size = data[at + 1]
        if size <= _SHORT:
            start, at = at + 2, at + 2 + size
            pair = _known_header(data[start:at])
        else:
            start, at = field(data, at)
            pair = _header(data[start:at])
        if pair is None:
            return None
        name, text = pair
        if name in found:
            return None
        found[name] = text
    if at != end:
        return None
    if end == stop:
        return found, False
    return (found, True) if data[end:stop] == _HEADERS_END else None


def _header(item: bytes) -> tuple[str, str] | None:
    """A HeaderValue: key and raw_value."""
    if item[0] != _FIRST or item[1] >= 0x80:
        return None
    start = 2 + item[1]
    if item[start] != _RAW_VALUE:
        return None
    value, stop = field(item, start)
    return (item[2:start].decode().lower(), item[value:].decode()) if stop == len(item) else None


_known_header = lru_cache(KEPT_HEADERS)(_header)
