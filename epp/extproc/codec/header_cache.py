"""Cache of decoded header blocks.

A client's header blocks are equal byte for byte except for a few values: the request's id, the length of its body,
credentials. A block (a serialized HeaderMap) is therefore looked up by its length and by all of its bytes outside
those values. Where these are equal, tags and lengths among them, the block decodes to the same headers except for the
values, which are read from the block itself. Which headers vary is learnt by comparing blocks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from epp.extproc.codec.wire import FIELD_1_TAG, field_bounds

_RAW_VALUE_TAG: Final = 0x1A  # HeaderValue.raw_value = 3

# Longer headers count as varying from the first: ids and credentials must not be kept in memory.
_MAX_CACHED_HEADER_BYTES: Final = 48

MAX_CACHED_HEADERS: Final = 1024
MAX_LAYOUTS: Final = 64
MAX_BLOCKS_PER_LAYOUT: Final = 16
MAX_VARYING_NAMES: Final = 256
MAX_CACHED_BLOCK_BYTES: Final = 2048

ValueSpan = tuple[str, int, int]
"""A header's name, and where in its block the value starts and stops."""

Headers = dict[str, str]
"""Values by name; names in lower case."""


class HeaderBlockCache:
    """Decodes header blocks, and remembers what they have in common. One for each server: it sees clients' values."""

    def __init__(self) -> None:
        self._layouts: dict[int, _BlockLayout] = {}  # by the length of the block
        self._varying_names: set[str] = set()
        self._parse_short_header = lru_cache(MAX_CACHED_HEADERS)(_parse_header)

    def decode(self, block: bytes) -> Headers | None:
        """The headers of a serialized HeaderMap, as a dict that belongs to the caller.

        None where a name is repeated or the block has fields that Envoy does not send; the caller then parses with
        protobuf. Raises IndexError and UnicodeDecodeError.
        """
        layout = self._layouts.get(len(block))
        if layout is not None:
            known = layout.decoded.get(layout.invariant_bytes(block))
            if known is not None:
                found = known.copy()
                for name, start, stop in layout.spans:
                    found[name] = block[start:stop].decode()
                return found
        parsed = self._parse_block(block)
        if parsed is None:
            return None
        headers, spans = parsed
        if len(block) <= MAX_CACHED_BLOCK_BYTES:
            self._learn_layout(block, headers, spans)
        return headers

    def _parse_block(self, block: bytes) -> tuple[Headers, list[ValueSpan]] | None:
        """The headers one by one, and the spans of those values that vary."""
        varying = self._varying_names
        at, end = 0, len(block)
        found: Headers = {}
        spans: list[ValueSpan] = []
        while at < end:
            if block[at] != FIELD_1_TAG:
                return None
            start, at = field_bounds(block, at)
            item = block[start:at]
            is_short = len(item) <= _MAX_CACHED_HEADER_BYTES
            header = self._parse_short_header(item) if is_short else _parse_header(item)
            if header is None or header[0] in found:
                return None
            name, text, value = header
            found[name] = text
            if not is_short or name in varying:
                spans.append((name, start + value, at))
        return (found, spans) if at == end else None

    def _learn_layout(self, block: bytes, headers: Headers, spans: list[ValueSpan]) -> None:
        layout = self._layouts.get(len(block))
        if layout is not None and self._learn_varying_names(layout.last_headers, headers):
            _, spans = self._parse_block(block) or (headers, spans)
        if layout is None or layout.spans != spans:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[len(block)] = _BlockLayout(spans)
        if len(layout.decoded) >= MAX_BLOCKS_PER_LAYOUT:
            layout.decoded.clear()
        varying = {name for name, _, _ in spans}
        layout.last_headers = {name: value for name, value in headers.items() if name not in varying}
        layout.decoded[layout.invariant_bytes(block)] = {name: layout.last_headers.get(name, "") for name in headers}

    def _learn_varying_names(self, before: Headers, headers: Headers) -> bool:
        """Adds the names whose values differ; False if there are none."""
        names = {name for name, value in headers.items() if before.get(name, value) != value}
        if len(self._varying_names) + len(names) > MAX_VARYING_NAMES:
            self._varying_names.clear()
        self._varying_names |= names
        return bool(names)


class _BlockLayout:
    """The blocks of one length whose varying values are at `spans`.

    `decoded` maps a block's other bytes to its headers. `last_headers` are the invariant headers of the block that
    was parsed last.
    """

    __slots__ = ("decoded", "last_headers", "spans")

    def __init__(self, spans: list[ValueSpan]) -> None:
        self.spans = spans
        self.last_headers: Headers = {}
        self.decoded: dict[bytes, Headers] = {}

    def invariant_bytes(self, block: bytes) -> bytes:
        """The block without the values that vary."""
        parts, at = [], 0
        for _, start, stop in self.spans:
            parts.append(block[at:start])
            at = stop
        parts.append(block[at:])
        return b"".join(parts)


def _parse_header(item: bytes) -> tuple[str, str, int] | None:
    """Key, raw_value and the offset of raw_value in a serialized HeaderValue."""
    if item[0] != FIELD_1_TAG or item[1] >= 0x80:
        return None
    start = 2 + item[1]
    if item[start] != _RAW_VALUE_TAG:
        return None
    value, stop = field_bounds(item, start)
    return (item[2:start].decode().lower(), item[value:].decode(), value) if stop == len(item) else None
