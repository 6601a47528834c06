"""Builds a prompt from a transcript and trims it to a token budget. Pure except for the passed-in token counter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from epp_batch.summaries.settings import TRANSCRIPT_PLACEHOLDER, KeptPart, SummarySettings

CHARACTERS_PER_TOKEN = 4.5
"""For estimates without a token counter: English speech in Qwen3's tokenizer (38.6 k characters, 8.5 k tokens)."""
OMISSION_MARK = " […] "
_MAX_TRIMS = 6
CountTokens = Callable[[str], Awaitable[int | None]]
"""Counts the tokens of a prompt under the model's chat template; None if the server cannot."""


class TranscriptTrim(msgspec.Struct, frozen=True, kw_only=True):
    """How a transcript was trimmed. Tokens are of the whole prompt, characters of the transcript only."""

    from_tokens: int
    to_tokens: int
    from_characters: int
    to_characters: int
    keep: KeptPart
    counted: Literal["server", "estimate"]


class SummaryPrompt(msgspec.Struct, frozen=True):
    """The prompt to send, and how its transcript was trimmed (None: not)."""

    text: str
    trim: TranscriptTrim | None = None


async def fit_prompt(
    transcript: str, settings: SummarySettings, budget: int | None, count: CountTokens
) -> SummaryPrompt:
    """The prompt, trimmed between words to at most `budget` tokens (None: no limit).

    A prompt with no more bytes than the budget is not counted: a token has at least one byte. Without a token counter
    the length is estimated.
    """
    full = settings.template.replace(TRANSCRIPT_PLACEHOLDER, transcript)
    if budget is None or len(full.encode()) <= budget:
        return SummaryPrompt(full)
    exact = await count(full)
    total = exact if exact is not None else estimate_tokens(full)
    if total <= budget:
        return SummaryPrompt(full)
    kept, text, tokens = transcript, full, total
    for _ in range(_MAX_TRIMS):
        # Tokens are not distributed evenly over a text: cut a little more than proportionally, then count again.
        room = int(len(kept) * max(0.0, 1 - (tokens - budget) / _estimate_transcript_tokens(tokens, text, kept)) * 0.99)
        kept = cut_text(transcript, room, settings.keep)
        text = settings.template.replace(TRANSCRIPT_PLACEHOLDER, kept)
        counted = await count(text) if exact is not None else None
        tokens = counted if counted is not None else estimate_tokens(text)
        if tokens <= budget or not kept:
            break
    trim = TranscriptTrim(
        from_tokens=total,
        to_tokens=tokens,
        from_characters=len(transcript),
        to_characters=len(kept),
        keep=settings.keep,
        counted="estimate" if exact is None else "server",
    )
    return SummaryPrompt(text, trim)


def estimate_tokens(text: str) -> int:
    """Estimated number of tokens, at least 1."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


def cut_text(text: str, size: int, keep: KeptPart) -> str:
    """At most `size` characters of a text, cut between words; `keep` chooses which."""
    if size >= len(text):
        return text
    if keep == "start":
        return _take_head(text, size)
    half = (size - len(OMISSION_MARK)) // 2
    return _take_head(text, half) + OMISSION_MARK + _take_head(text[::-1], half)[::-1] if half > 0 else ""


def _take_head(text: str, size: int) -> str:
    if size <= 0 or text[size : size + 1].isspace():
        return text[: max(size, 0)].rstrip()
    words = text[:size].rsplit(None, 1)
    return words[0] if len(words) == 2 else text[:size]


def _estimate_transcript_tokens(tokens: int, text: str, kept: str) -> float:
    """Estimated tokens of the transcript within the prompt, at least 1."""
    return max(1.0, tokens * len(kept) / len(text))
