"""Packs spans of speech into windows of at most 30 s, the input length of Whisper's encoder.

A window concatenates spans of speech without the silence between them (faster-whisper's `collect_chunks`), so that
decoding costs as much as there is speech. Decoded times refer to the concatenated audio; `SpeechWindow.restore_span`
maps them back to the recording (faster-whisper's `SpeechTimestampsMap`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

MAX_WINDOW_SECONDS = 30.0
"""openai-whisper's CHUNK_LENGTH: the encoder pads shorter input to this length."""


class SpeechWindow(msgspec.Struct, frozen=True, array_like=True):
    """Spans of speech (start, end) in seconds of the recording, decoded together.

    Encoded as a JSON array in the partial file.
    """

    spans: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Total speech in the window."""
        return sum(end - start for start, end in self.spans)

    @property
    def end(self) -> float:
        return self.spans[-1][1]

    def restore_span(self, start: float, end: float) -> tuple[float, float]:
        """Maps times of the concatenated audio to the recording, clamped to the speech span of their midpoint."""
        offsets = list(accumulate((stop - begin for begin, stop in self.spans), initial=0.0))
        index = max(min(bisect_right(offsets, (start + end) / 2), len(self.spans)) - 1, 0)
        first, last = self.spans[index]
        shift = first - offsets[index]
        clamped = min(max(start + shift, first), last)
        return round(clamped, 3), round(min(max(end + shift, clamped), last), 3)


def pack_windows(spans: Iterable[Sequence[float]], limit: float = MAX_WINDOW_SECONDS) -> list[SpeechWindow]:
    """Packs ordered spans of speech greedily into windows of at most `limit` seconds; longer spans are cut."""
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
