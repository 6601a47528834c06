"""From a transcript to a prompt that fits. Pure but for the counting of tokens, which is handed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from epp_batch.summaries.settings import TRANSCRIPT_PLACEHOLDER, KeptPart, SummarySettings

CHARACTERS_PER_TOKEN = 4.5
"""Where no server counts: English speech under Qwen3's tokenizer, 38.6 k characters in 8.5 k tokens (the paper)."""
OMISSION_MARK = " […] "
_MAX_TRIMS = 6
CountTokens = Callable[[str], Awaitable[int | None]]
"""Tokens of a whole prompt under the model's chat template; None where the server does not tell."""


class TranscriptTrim(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out of a transcript. Tokens are of the whole prompt, characters of the transcript alone."""

    from_tokens: int
    to_tokens: int
    from_characters: int
    to_characters: int
    keep: KeptPart
    counted: Literal["server", "estimate"]


class SummaryPrompt(msgspec.Struct, frozen=True):
    """What is sent."""

    text: str
    trim: TranscriptTrim | None = None


async def fit_prompt(
    transcript: str, settings: SummarySettings, budget: int | None, count: CountTokens
) -> SummaryPrompt:
    """The prompt, trimmed at a word until it has at most `budget` tokens; None is no limit.

    Nothing is counted where even one byte a token would fit. Without a server that counts, lengths are estimated.
    """
    whole = settings.template.replace(TRANSCRIPT_PLACEHOLDER, transcript)
    if budget is None or len(whole.encode()) <= budget:
        return SummaryPrompt(whole)
    exact = await count(whole)
    total = exact if exact is not None else estimate_tokens(whole)
    if total <= budget:
        return SummaryPrompt(whole)
    kept, text, tokens = transcript, whole, total
    for _ in range(_MAX_TRIMS):
        # Tokens are not spread evenly over a text: a little less than the rule of three, then look again.
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
    """About how many tokens that is."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


def cut_text(text: str, size: int, keep: KeptPart) -> str:
    """At most `size` characters of a text, cut between words."""
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
    """How many of a prompt's tokens the transcript in it has."""
    return max(1.0, tokens * len(kept) / len(text))
