"""Envoy's messages as Envoy itself writes them, read by hand: a third of what protobuf's objects cost to look into.

Protobuf allows much more than Envoy makes use of: any order of fields, fields in pieces, fields that we do not know.
Whatever is not in the usual form gives None here, and is protobuf's to read. Wire format: a tag (field number << 3 | 2
for anything with a length), the length, that many bytes.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = 0x0A  # field 1 with a length: HttpBody.body, HttpHeaders.headers, HeaderMap.headers, HeaderValue.key
_RAW_VALUE: Final = 0x1A  # HeaderValue.raw_value
_BODY_ENDS: Final = b"\x10\x01"
_HEADERS_END: Final = b"\x18\x01"


def field(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the field at `at` starts and stops. Raises IndexError where that cannot be told."""
    size = data[at + 1]
    if size < 0x80:
        return at + 2, at + 2 + size
    size &= 0x7F
    for shift in range(7, 35, 7):  # no message of Envoy's is longer than that
        size |= (data[at + 2] & 0x7F) << shift
        at += 1
        if data[at + 1] < 0x80:
            return at + 2, at + 2 + size
    raise IndexError


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
        if size < 0x80:
            item, at = at + 2, at + 2 + size
            value = item + 2 + data[item + 1]
            text = value + 2
            # a length of more than one byte in here would reach beyond the header
            if data[item] != _FIRST or data[value] != _RAW_VALUE or text + data[value + 1] != at:
                return None
        else:
            item, at = field(data, at)
            value = item + 2 + data[item + 1]
            if data[item] != _FIRST or data[value] != _RAW_VALUE or data[item + 1] >= 0x80:
                return None
            text, value_end = field(data, value)
            if value_end != at:
                return None
        name = data[item + 2 : value].decode()
        if name in found:
            return None
        found[name] = data[text:at].decode()
    names = "".join(found)
    if at != end or names != names.lower():
        return None
    if end == stop:
        return found, False
    return (found, True) if data[end:stop] == _HEADERS_END else None
