"""Blocks of headers: read header by header once, and afterwards by what differs from a block read before.

A client's blocks are the same to the byte but for a few values: the id of the request, the length of its body,
credentials. So a block is looked up by its length and by all of its bytes around those values. Equal bytes there,
tags and lengths among them, read to the same headers: only the values are then to be taken from the block at hand.
Which headers vary is learnt from the blocks themselves.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final

from epp.extproc.codec.wire import FIRST, field

_RAW_VALUE: Final = 0x1A  # HeaderValue.raw_value

# A longer header is taken to vary from the first: ids and credentials are nothing to be kept.
_SHORT: Final = 48

KEPT_HEADERS: Final = 1024
KEPT_LAYOUTS: Final = 64
KEPT_BLOCKS: Final = 16
KEPT_NAMES: Final = 256
LONGEST_BLOCK: Final = 2048

Span = tuple[str, int, int]
"""A header's name, and where in its block the value starts and stops."""

Headers = dict[str, str]


class _Layout:
    """Blocks of one length that differ in the values at `spans`: their other bytes, and what these read to.

    `last`: the headers of the one that was read last.
    """

    __slots__ = ("known", "last", "spans")

    def __init__(self, spans: list[Span], last: Headers) -> None:
        self.spans = spans
        self.last = last
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
        self._varying: set[str] = set()

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
        read = _read(block, self._varying)
        if read is None:
            return None
        headers, spans = read
        if len(block) <= LONGEST_BLOCK:
            self._learn(block, headers, spans)
        return headers

    def _learn(self, block: bytes, headers: Headers, spans: list[Span]) -> None:
        layout = self._layouts.get(len(block))
        if layout is not None and self._differ(layout.last, headers):
            _, spans = _read(block, self._varying) or (headers, spans)
        if layout is None or layout.spans != spans:
            if len(self._layouts) >= KEPT_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[len(block)] = _Layout(spans, {})
        if len(layout.known) >= KEPT_BLOCKS:
            layout.known.clear()
        varying = {name for name, _, _ in spans}
        layout.last = {name: value for name, value in headers.items() if name not in varying}
        layout.known[layout.common(block)] = {name: layout.last.get(name, "") for name in headers}

    def _differ(self, before: Headers, headers: Headers) -> bool:
        """Learns which headers vary; whether there was anything to learn."""
        names = {name for name, value in headers.items() if before.get(name, value) != value}
        if len(self._varying) + len(names) > KEPT_NAMES:
            self._varying.clear()
        self._varying |= names
        return bool(names)


def _read(block: bytes, varying: AbstractSet[str]) -> tuple[Headers, list[Span]] | None:
    """The headers one by one, and where those stand that vary."""
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
        if len(item) > _SHORT or name in varying:
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
