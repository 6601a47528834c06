"""Segments and words of a transcript, and the split of long segments into subtitle lines."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Word(msgspec.Struct, frozen=True):
    """One word with its leading space, as Whisper emits it. Times are in seconds of the recording."""

    start: float
    end: float
    word: str
    probability: float


class Segment(msgspec.Struct, frozen=True):
    """One segment of a transcript. Fields and their order are those of openai-whisper's JSON; times are in seconds."""

    id: int
    seek: int
    """Start of the decoded window, in mel frames of 10 ms."""
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None = None


SENTENCE_ENDS = tuple(".?!。？！…")
CLAUSE_ENDS = tuple(",;:，、；：—")
PAUSE_SECONDS = 0.8
"""A pause of this length always ends a line."""
MIN_SENTENCE_LENGTH, CLAUSE_LINE_LENGTH, MAX_LINE_LENGTH = 20, 84, 120
"""Line lengths in characters. A full stop ends a line only from MIN_SENTENCE_LENGTH on (`Mr.` does not), a comma from
CLAUSE_LINE_LENGTH on (two subtitle lines of 42), and any word does before MAX_LINE_LENGTH would be exceeded."""


def split_into_lines(words: list[Word]) -> Iterator[list[Word]]:
    """Splits words into lines that end at a pause, a sentence or a clause.

    Batched decoding returns one segment for a window of up to 30 s, which is too long for a subtitle.
    """
    line: list[Word] = []
    length = 0
    for word in words:
        if line and _is_line_end(line[-1], length, word):
            yield line
            line, length = [], 0
        line.append(word)
        length += len(word.word)
    if line:
        yield line


def _is_line_end(last: Word, length: int, following: Word) -> bool:
    text = last.word.rstrip("\"'”’)")
    return (
        following.start - last.end >= PAUSE_SECONDS
        or (length >= MIN_SENTENCE_LENGTH and text.endswith(SENTENCE_ENDS))
        or (length >= CLAUSE_LINE_LENGTH and text.endswith(CLAUSE_ENDS))
        or length + len(following.word) > MAX_LINE_LENGTH
    )
