"""Segments and words of a transcript, and how a long segment becomes lines that a person can read."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Word(msgspec.Struct, frozen=True):
    """One word with its leading blank. Times in seconds of the recording."""

    start: float
    end: float
    word: str
    probability: float


class Segment(msgspec.Struct, frozen=True):
    """A stretch of speech; fields and their order are those of openai-whisper's JSON. Times in seconds."""

    id: int
    seek: int
    """Frame of 10 ms where the decoded window began."""
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
"""Seconds of silence that always end a line."""
MIN_SENTENCE_LENGTH, CLAUSE_LINE_LENGTH, MAX_LINE_LENGTH = 20, 84, 120
"""Characters: below the first a full stop does not end a line (`Mr.`); from the second, two subtitle lines, a comma
does; at the third any word does."""


def split_into_lines(words: list[Word]) -> Iterator[list[Word]]:
    """Words in groups that end where a reader expects it: at a pause, a sentence, then a clause.

    Batched decoding gives one segment for a window of up to 30 s; nobody reads a subtitle that long.
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
