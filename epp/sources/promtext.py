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
LOOK_AGAIN = 16

_BOUNDARY = b"{ \t"
_BLOCK = re.compile(rb'\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\}')
_LABEL = re.compile(rb'([A-Za-z_][\w:.]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n"}


class Series:
    """One metric on the successive pages of one endpoint; remembers where it stood."""

    __slots__ = ("_absent_for", "_name", "_near", "_needle")

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._needle = b"\n" + self._name
        self._near = -1
        self._absent_for = 0

    def read(self, page: Page, start: int = 0, end: int | None = None) -> list[Sample]:
        """All samples of the metric in `page[start:end]`; none if it is not there or nothing of it makes sense.

        A metric that was missing is looked for again on every sixteenth page only, see `forget`.
        """
        if end is None:
            end = len(page)
        if self._absent_for:
            self._absent_for -= 1
            return []
        at = self._nearby(page, start, end) if self._near >= 0 else -1
        if at < 0:
            at = self._anywhere(page, start, end)
        if at < 0:
            self._near = -1
            self._absent_for = LOOK_AGAIN - 1
            return []
        self._near = at - start
        return self._samples(page, at, end)

    def forget(self) -> None:
        """The next page is another server's, or the last one had nothing on it: search it all."""
        self._near = -1
        self._absent_for = 0

    def _nearby(self, page: Page, start: int, end: int) -> int:
        near = start + self._near
        at = self._find(page, max(start, near - WINDOW_BEFORE), min(end, near + WINDOW_AFTER))
        # The window may begin in the middle of the series: go back to the first.
        while at > start:
            before = page.rfind(b"\n", start, at - 1) + 1 or start
            if not self._begins(page, before, end):
                break
            at = before
        return at

    def _anywhere(self, page: Page, start: int, end: int) -> int:
        return start if self._begins(page, start, end) else self._find(page, start, end)

    def _find(self, page: Page, low: int, high: int) -> int:
        needle = self._needle
        while True:
            hit = page.find(needle, low, high)
            if hit < 0:
                return -1
            low = hit + len(needle)
            # Otherwise a longer name: num_requests_waiting_by_reason.
            if page[low : low + 1] in _BOUNDARY:
                return hit + 1

    def _begins(self, page: Page, at: int, end: int) -> bool:
        after = at + len(self._name)
        return page.startswith(self._name, at, end) and after < end and page[after] in _BOUNDARY

    def _samples(self, page: Page, at: int, end: int) -> list[Sample]:
        samples: list[Sample] = []
        while True:
            stop = page.find(b"\n", at, end)
            if stop < 0:
                stop = end
            sample = _sample(bytes(page[at + len(self._name) : stop]))
            if sample is not None:
                samples.append(sample)
            at = stop + 1
            if not self._begins(page, at, end):
                return samples


def _sample(rest: bytes) -> Sample | None:
    """What follows the name on a line: labels, value, perhaps a timestamp, perhaps an exemplar."""
    rest = rest.strip()
    labels = b""
    if rest[:1] == b"{":
        close = rest.find(b"}")
        if rest.find(b"}", close + 1) >= 0:  # a brace in a label value, or in an exemplar
            block = _BLOCK.match(rest)
            close = block.end() - 1 if block else -1
        if close < 0:
            return None
        labels, rest = rest[: close + 1], rest[close + 1 :]
    try:
        return labels, float(rest)
    except ValueError:
        pass
    try:
        return labels, float(rest.split(None, 1)[0])
    except (ValueError, IndexError):
        return None


def labels(block: bytes) -> Mapping[str, str]:
    """Names and values of a label block, escapes undone."""
    return {name.decode(): _unescaped(value).decode(errors="replace") for name, value in _LABEL.findall(block)}


def _unescaped(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), value)
