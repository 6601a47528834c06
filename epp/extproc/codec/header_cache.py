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

from epp.extproc.codec.wire import FIELD_1_TAG, field_bounds

_RAW_VALUE_TAG: Final = 0x1A  # HeaderValue.raw_value

# A longer header is taken to vary from the first: ids and credentials are nothing to be kept.
_MAX_CACHED_HEADER_BYTES: Final = 48

MAX_CACHED_HEADERS: Final = 1024
MAX_LAYOUTS: Final = 64
MAX_BLOCKS_PER_LAYOUT: Final = 16
MAX_VARYING_NAMES: Final = 256
MAX_CACHED_BLOCK_BYTES: Final = 2048

ValueSpan = tuple[str, int, int]
"""A header's name, and where in its block the value starts and stops."""

Headers = dict[str, str]


class _BlockLayout:
    """Blocks of one length that differ in the values at `spans`: their other bytes, and what these read to.

    `last`: the headers of the one that was read last.
    """

    __slots__ = ("decoded", "last_headers", "spans")

    def __init__(self, spans: list[ValueSpan], last: Headers) -> None:
        self.spans = spans
        self.last_headers = last
        self.decoded: dict[bytes, Headers] = {}

    def invariant_bytes(self, block: bytes) -> bytes:
        """The block without the values that vary."""
        parts, at = [], 0
        for _, start, stop in self.spans:
            parts.append(block[at:start])
            at = stop
        parts.append(block[at:])
        return b"".join(parts)


class HeaderBlockCache:
    """What has been learnt of header blocks."""

    def __init__(self) -> None:
        self._layouts: dict[int, _BlockLayout] = {}
        self._varying_names: set[str] = set()

    def decode(self, block: bytes) -> Headers | None:
        """Values by lower-case name of a HeaderMap; None where a name is repeated, or a field is none that Envoy sends.

        Raises IndexError and UnicodeDecodeError.
        """
        layout = self._layouts.get(len(block))
        if layout is not None:
            known = layout.decoded.get(layout.invariant_bytes(block))
            if known is not None:
                found = known.copy()
                for name, start, stop in layout.spans:
                    found[name] = block[start:stop].decode()
                return found
        read = _parse_block(block, self._varying_names)
        if read is None:
            return None
        headers, spans = read
        if len(block) <= MAX_CACHED_BLOCK_BYTES:
            self._learn_layout(block, headers, spans)
        return headers

    def _learn_layout(self, block: bytes, headers: Headers, spans: list[ValueSpan]) -> None:
        layout = self._layouts.get(len(block))
        if layout is not None and self._learn_varying_names(layout.last_headers, headers):
            _, spans = _parse_block(block, self._varying_names) or (headers, spans)
        if layout is None or layout.spans != spans:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[len(block)] = _BlockLayout(spans, {})
        if len(layout.decoded) >= MAX_BLOCKS_PER_LAYOUT:
            layout.decoded.clear()
        varying = {name for name, _, _ in spans}
        layout.last_headers = {name: value for name, value in headers.items() if name not in varying}
        layout.decoded[layout.invariant_bytes(block)] = {name: layout.last_headers.get(name, "") for name in headers}

    def _learn_varying_names(self, before: Headers, headers: Headers) -> bool:
        """Learns which headers vary; whether there was anything to learn."""
        names = {name for name, value in headers.items() if before.get(name, value) != value}
        if len(self._varying_names) + len(names) > MAX_VARYING_NAMES:
            self._varying_names.clear()
        self._varying_names |= names
        return bool(names)


def _parse_block(block: bytes, varying: AbstractSet[str]) -> tuple[Headers, list[ValueSpan]] | None:
    """The headers one by one, and where those stand that vary."""
    at, end = 0, len(block)
    found: Headers = {}
    spans: list[ValueSpan] = []
    while at < end:
        if block[at] != FIELD_1_TAG:
            return None
        start, at = field_bounds(block, at)
        item = block[start:at]
        read = _parse_header_cached(item) if len(item) <= _MAX_CACHED_HEADER_BYTES else _parse_header(item)
        if read is None or read[0] in found:
            return None
        name, text, value = read
        found[name] = text
        if len(item) > _MAX_CACHED_HEADER_BYTES or name in varying:
            spans.append((name, start + value, at))
    return (found, spans) if at == end else None


def _parse_header(item: bytes) -> tuple[str, str, int] | None:
    """Of a HeaderValue the key, the raw_value, and where that starts."""
    if item[0] != FIELD_1_TAG or item[1] >= 0x80:
        return None
    start = 2 + item[1]
    if item[start] != _RAW_VALUE_TAG:
        return None
    value, stop = field_bounds(item, start)
    return (item[2:start].decode().lower(), item[value:].decode(), value) if stop == len(item) else None


_parse_header_cached = lru_cache(MAX_CACHED_HEADERS)(_parse_header)
