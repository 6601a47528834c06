"""The few wanted series out of a Prometheus text page, found by `bytes.find`.

A vLLM page has 840 lines of which six matter; parsing it in full costs 12 ms in Python and is most of what the Go
picker spends its time on. Series of one metric stand together, as the exposition format demands, and each line begins
in the first column; for pages that keep to that, this finds what a full parser finds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Page = bytes | bytearray
Sample = tuple[bytes, float]
"""The label block as it stands on the page, braces included, empty without labels; and the value."""

# Values grow and shrink by digits, so what stood somewhere a moment ago stands near there now.
WINDOW_BEFORE = 512
WINDOW_AFTER = 1024
# A page that lacks a metric (LoRA, mostly) would be searched to its end for it every time.
ABSENT_RECHECK_PAGES = 16
ANCHOR_PREFIX_BYTES = 8

_BOUNDARY = b"{ \t"
_BLOCK = re.compile(rb'\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}')
_LABEL = re.compile(rb'([A-Za-z_][\w:.]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n"}


class SeriesReader:
    """One metric on the successive pages of one endpoint; remembers where and how it stood.

    Under its TYPE comment the series is recognised by an anchor: the end of that comment and the name. Without one it
    is searched for from the beginning every time.
    """

    __slots__ = (
        "_anchor",
        "_anchor_offset",
        "_anchor_prefix",
        "_cached_group",
        "_cached_samples",
        "_name",
        "_pages_until_recheck",
    )

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._anchor = b""
        self._anchor_prefix = 0
        self._anchor_offset = 0
        self._cached_group = b""
        self._cached_samples: list[Sample] = []
        self._pages_until_recheck = 0

    def read(self, page: Page, start: int = 0, end: int | None = None) -> list[Sample]:
        """All samples of the metric in `page[start:end]`; none if it is not there or nothing of it makes sense.

        The very list of the last time if nothing changed. A metric that was missing is looked for again on every
        sixteenth page only, see `forget`.
        """
        if end is None:
            end = len(page)
        if self._anchor:
            near = start + self._anchor_offset
            if page.startswith(self._anchor, near, end):
                return self._read_samples(page, near + self._anchor_prefix, end)
            hit = page.find(self._anchor, max(start, near - WINDOW_BEFORE), min(end, near + WINDOW_AFTER))
            if hit >= 0:
                self._anchor_offset = hit - start
                return self._read_samples(page, hit + self._anchor_prefix, end)
        if self._pages_until_recheck:
            self._pages_until_recheck -= 1
            return []
        at = self._find_first_sample(page, start, end)
        if at < 0:
            self.reset()
            self._pages_until_recheck = ABSENT_RECHECK_PAGES - 1
            return []
        self._store_anchor(page, start, at)
        return self._read_samples(page, at, end)

    def reset(self) -> None:
        """The next page is another server's, or the last one had nothing on it: search it all."""
        self._anchor = self._cached_group = b""
        self._pages_until_recheck = 0

    def _find_first_sample(self, page: Page, start: int, end: int) -> int:
        """Where the first sample begins; -1 if there is none."""
        if self._starts_sample(page, start, end):
            return start
        needle = b"\n" + self._name
        at = page.find(needle, start, end)
        while at >= 0 and not self._starts_sample(page, at + 1, end):
            at = page.find(needle, at + 1, end)  # that was a longer name: num_requests_waiting_by_reason
        return at + 1 if at >= 0 else -1

    def _store_anchor(self, page: Page, start: int, at: int) -> None:
        self._anchor = b""
        line = page.rfind(b"\n", start, at - 1) + 1 if at > start else at
        # Samples end in digits (or are no numbers): below a line that ends in a letter stands the first of them.
        if page[line : line + 1] == b"#" and page[at - 2 : at - 1].isalpha():
            lead = max(line, at - ANCHOR_PREFIX_BYTES)
            self._anchor = bytes(page[lead : at + len(self._name) + 1])
            self._anchor_prefix = at - lead
            self._anchor_offset = lead - start

    def _starts_sample(self, page: Page, at: int, end: int) -> bool:
        after = at + len(self._name)
        return page.startswith(self._name, at, end) and after < end and page[after] in _BOUNDARY

    def _read_samples(self, page: Page, at: int, end: int) -> list[Sample]:
        if self._cached_group and page.startswith(self._cached_group, at, end):
            return self._cached_samples
        first, width = at, len(self._name)
        samples: list[Sample] = []
        while True:
            stop = page.find(b"\n", at, end)
            if stop < 0:
                stop = end
            sample = _parse_sample(bytes(page[at + width : stop]))
            if sample is not None:
                samples.append(sample)
            at = stop + 1
            if page[at : at + 1] == b"#" or not self._starts_sample(page, at, end):
                break
        # With the first byte of the line that follows, so that a sample more is a change.
        self._cached_group = bytes(page[first : at + 1]) if at < end else b""
        self._cached_samples = samples
        return samples


def _parse_sample(rest: bytes) -> Sample | None:
    """What follows the name on a line: labels, value, perhaps a timestamp, perhaps an exemplar."""
    close = rest.find(b"}") + 1
    # The first brace may stand in a label value, but then what follows it is no number.
    try:
        return (rest[:close], float(rest[close:])) if close else (b"", float(rest))
    except ValueError:
        return _parse_sample_by_grammar(rest.strip())


def _parse_sample_by_grammar(rest: bytes) -> Sample | None:
    block = _BLOCK.match(rest)
    labels = block[0] if block else b""
    try:
        return labels, float(rest[len(labels) :].split(None, 1)[0])
    except (ValueError, IndexError):
        return None


def parse_labels(block: bytes) -> Mapping[str, str]:
    """Names and values of a label block, escapes undone."""
    return {name.decode(): _unescape(value).decode(errors="replace") for name, value in _LABEL.findall(block)}


def _unescape(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), value)
