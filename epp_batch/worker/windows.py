"""Speech packed into windows of at most 30 s, the length that Whisper's encoder takes whatever it holds.

A window joins stretches of speech and leaves the silence between them out, so a recording full of pauses costs what its
speech costs. Times that come back lie on the joined line; `Window.restore` puts them where they were said.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

MAX_WINDOW_SECONDS = 30.0
"""Seconds that fit into one window."""


class SpeechWindow(msgspec.Struct, frozen=True, array_like=True):
    """Stretches of speech (start, end) in seconds of the recording, decoded together."""

    spans: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Length on the joined line."""
        return sum(end - start for start, end in self.spans)

    @property
    def end(self) -> float:
        return self.spans[-1][1]

    def restore_span(self, start: float, end: float) -> tuple[float, float]:
        """A time span on the joined line in seconds of the recording; it stays within the stretch of its middle."""
        edges = list(accumulate((stop - begin for begin, stop in self.spans), initial=0.0))
        index = min(bisect_right(edges, (start + end) / 2), len(self.spans)) - 1
        first, last = self.spans[max(index, 0)]
        shift = first - edges[max(index, 0)]
        clamped = min(max(start + shift, first), last)
        return round(clamped, 3), round(min(max(end + shift, clamped), last), 3)


def pack_windows(spans: Iterable[Sequence[float]], limit: float = MAX_WINDOW_SECONDS) -> list[SpeechWindow]:
    """Stretches of speech, in order, into as few windows as fit; a stretch longer than the limit is cut."""
    windows: list[SpeechWindow] = []
    current: list[tuple[float, float]] = []
    filled = 0.0
    for start, end in _split_long_spans(spans, limit):
        if current and filled + end - start > limit:
            windows.append(SpeechWindow(tuple(current)))
            current, filled = [], 0.0
        current.append((start, end))
        filled += end - start
    if current:
        windows.append(SpeechWindow(tuple(current)))
    return windows


def _split_long_spans(spans: Iterable[Sequence[float]], limit: float) -> Iterable[tuple[float, float]]:
    for start, end in spans:
        while end - start > limit:
            yield start, start + limit
            start += limit
        yield start, end
