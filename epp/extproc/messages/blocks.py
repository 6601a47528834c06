"""Blocks of headers: read header by header once, and afterwards by what differs from a block read before.

A client's blocks are the same to the byte but for a few values: the id of the request, the length of its body,
credentials. So a block is looked up by its length and by all of its bytes around those values. Equal bytes there,
tags and lengths among them, read to the same headers: only the values are then to be taken from the block at hand.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from epp.extproc.messages.wire import FIRST, field

_RAW_VALUE: Final = 0x1A  # HeaderValue.raw_value

# A longer header is not the same in every request, or nothing to be kept: ids, credentials.
_SHORT: Final = 48
VARYING: Final = frozenset(("content-length", "date", "x-envoy-upstream-service-time", "x-forwarded-for"))
"""Short headers that are not the same in every request either."""

KEPT_HEADERS: Final = 1024
KEPT_LAYOUTS: Final = 64
KEPT_BLOCKS: Final = 16
LONGEST_BLOCK: Final = 2048

Span = tuple[str, int, int]
"""A header's name, and where in its block the value starts and stops."""

Headers = dict[str, str]


class _Layout:
    """Blocks of one length that differ in the values at `spans`: their other bytes, and what these read to."""

    __slots__ = ("known", "spans")

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self.known: dict[bytes, Headers] = {}

    def common(self, block: bytes) -> bytes:
        """The block without the values that vary."""
        parts, at = [], 0
        for _, start, stop in self.spans:
            parts.append(block[at:start])
            at = stop
        parts.append(block[at:])
        return b"".join(parts)


class Blocks:
    """What has been learnt of header blocks."""

    def __init__(self) -> None:
        self._layouts: dict[int, _Layout] = {}

    def headers(self, block: bytes) -> Headers | None:
        """Values by lower-case name of a HeaderMap; None where a name is repeated, or a field is none that Envoy sends.

        Raises IndexError and UnicodeDecodeError.
        """
        layout = self._layouts.get(len(block))
        if layout is not None:
            known = layout.known.get(layout.common(block))
            if known is not None:
                found = known.copy()
                for name, start, stop in layout.spans:
                    found[name] = block[start:stop].decode()
                return found
        read = _read(block)
        if read is None:
            return None
        if len(block) <= LONGEST_BLOCK:
            self._learn(block, *read)
        return read[0]

    def _learn(self, block: bytes, headers: Headers, spans: list[Span]) -> None:
        layout = self._layouts.get(len(block))
        if layout is None or layout.spans != spans:
            if len(self._layouts) >= KEPT_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[len(block)] = _Layout(spans)
        if len(layout.known) >= KEPT_BLOCKS:
            layout.known.clear()
        layout.known[layout.common(block)] = {**headers, **{name: "" for name, _, _ in spans}}


def _read(block: bytes) -> tuple[Headers, list[Span]] | None:
    """The headers one by one, and those that vary."""
    at, end = 0, len(block)
    found: Headers = {}
    spans: list[Span] = []
    while at < end:
        if block[at] != FIRST:
            return None
        start, at = field(block, at)
        item = block[start:at]
        read = _known_header(item) if len(item) <= _SHORT else _header(item)
        if read is None or read[0] in found:
            return None
        name, text, value = read
        found[name] = text
        if len(item) > _SHORT or name in VARYING:
            spans.append((name, start + value, at))
    return (found, spans) if at == end else None


def _header(item: bytes) -> tuple[str, str, int] | None:
    """Of a HeaderValue the key, the raw_value, and where that starts."""
    if item[0] != FIRST or item[1] >= 0x80:
        return None
    start = 2 + item[1]
    if item[start] != _RAW_VALUE:
        return None
    value, stop = field(item, start)
    return (item[2:start].decode().lower(), item[value:].decode(), value) if stop == len(item) else None


_known_header = lru_cache(KEPT_HEADERS)(_header)
