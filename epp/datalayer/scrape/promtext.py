"""Finds the series of single metrics in pages of the Prometheus text exposition format 0.0.4, by `bytes.find`.

Six of the 840 lines of a vLLM page are needed. Parsing all of them takes 12 ms in Python, and is what the Go picker
spends most of its time on. All samples of a metric form one group and each line begins in the first column, as the
format demands; for such pages the result is that of a full parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Page = bytes | bytearray
Sample = tuple[bytes, float]
"""The label block as it is on the page, with braces, empty without labels; and the value."""

# From page to page a metric moves by a few bytes, as the numbers before it get more or fewer digits. It is searched for
# this far before and after its last position.
WINDOW_BEFORE = 512
WINDOW_AFTER = 1024
# Searching a whole page for an absent metric (LoRA, mostly) costs more than reading the others: only on each 16th page.
ABSENT_RECHECK_PAGES = 16
ANCHOR_PREFIX_BYTES = 8

_BOUNDARY = b"{ \t"
_BLOCK = re.compile(rb'\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}')
_LABEL = re.compile(rb'([A-Za-z_][\w:.]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n"}


class SeriesReader:
    """Reads the samples of one metric on the successive pages of one endpoint.

    It remembers the position of the group, and an anchor: the last bytes of the TYPE comment above it and the metric's
    name. A group without a TYPE comment is searched for from the beginning of each page.
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
        """All valid samples of the metric in `page[start:end]`.

        If the group has not changed since the last page, the result is the same list object. A metric that was absent
        is searched for again after `ABSENT_RECHECK_PAGES`, or after `reset`.
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
        """Searches all of the next page: it is another server's, or the last one had none of the metrics."""
        self._anchor = self._cached_group = b""
        self._pages_until_recheck = 0

    def _find_first_sample(self, page: Page, start: int, end: int) -> int:
        """Offset of the first sample; -1 if there is none."""
        if self._starts_sample(page, start, end):
            return start
        needle = b"\n" + self._name
        at = page.find(needle, start, end)
        while at >= 0 and not self._starts_sample(page, at + 1, end):
            at = page.find(needle, at + 1, end)  # it was a longer name, such as num_requests_waiting_by_reason
        return at + 1 if at >= 0 else -1

    def _store_anchor(self, page: Page, start: int, at: int) -> None:
        """Remembers the anchor of the group that begins at `at`, if a TYPE comment precedes it."""
        self._anchor = b""
        line = page.rfind(b"\n", start, at - 1) + 1 if at > start else at
        # Valid samples end in digits, TYPE comments in a letter: below such a comment the group begins.
        if page[line : line + 1] == b"#" and page[at - 2 : at - 1].isalpha():
            lead = max(line, at - ANCHOR_PREFIX_BYTES)
            self._anchor = bytes(page[lead : at + len(self._name) + 1])
            self._anchor_prefix = at - lead
            self._anchor_offset = lead - start

    def _starts_sample(self, page: Page, at: int, end: int) -> bool:
        after = at + len(self._name)
        return page.startswith(self._name, at, end) and after < end and page[after] in _BOUNDARY

    def _read_samples(self, page: Page, at: int, end: int) -> list[Sample]:
        """The samples of the group that begins at `at`."""
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
        # Including the first byte of the next line, so that an additional sample is noticed.
        self._cached_group = bytes(page[first : at + 1]) if at < end else b""
        self._cached_samples = samples
        return samples


def _parse_sample(rest: bytes) -> Sample | None:
    """A sample from the rest of its line after the name: labels, value, and perhaps timestamp and exemplar."""
    close = rest.find(b"}") + 1
    # The first closing brace may be part of a label value; then what follows it is not a number.
    try:
        return (rest[:close], float(rest[close:])) if close else (b"", float(rest))
    except ValueError:
        return _parse_sample_by_grammar(rest.strip())


def _parse_sample_by_grammar(rest: bytes) -> Sample | None:
    """As `_parse_sample`, with the label block found by its grammar; None if the line is malformed."""
    block = _BLOCK.match(rest)
    labels = block[0] if block else b""
    try:
        return labels, float(rest[len(labels) :].split(None, 1)[0])
    except (ValueError, IndexError):
        return None


def parse_labels(block: bytes) -> Mapping[str, str]:
    """Names and unescaped values of the labels in a label block."""
    return {
        name.decode(): _unescape_label_value(value).decode(errors="replace") for name, value in _LABEL.findall(block)
    }


def _unescape_label_value(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), value)
