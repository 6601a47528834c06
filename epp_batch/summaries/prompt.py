"""From a transcript to a prompt that fits. Pure but for the counting of tokens, which is handed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from epp_batch.summaries.settings import PLACE, Keep, Settings

CHARACTERS_PER_TOKEN = 4.5
"""Where no server counts: English speech under Qwen3's tokenizer, 38.6 k characters in 8.5 k tokens (the paper)."""
GAP = " […] "
_ROUNDS = 6
Count = Callable[[str], Awaitable[int | None]]
"""Tokens of a whole prompt under the model's chat template; None where the server does not tell."""


class Trim(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out of a transcript. Tokens are of the whole prompt, characters of the transcript alone."""

    from_tokens: int
    to_tokens: int
    from_characters: int
    to_characters: int
    keep: Keep
    counted: Literal["server", "estimate"]


class Prompt(msgspec.Struct, frozen=True):
    """What is sent."""

    text: str
    trim: Trim | None = None


async def fit(transcript: str, settings: Settings, budget: int | None, count: Count) -> Prompt:
    """The prompt, trimmed at a word until it has at most `budget` tokens; None is no limit.

    Nothing is counted where even one byte a token would fit. Without a server that counts, lengths are estimated.
    """
    whole = settings.template.replace(PLACE, transcript)
    if budget is None or len(whole.encode()) <= budget:
        return Prompt(whole)
    exact = await count(whole)
    total = exact if exact is not None else estimate(whole)
    if total <= budget:
        return Prompt(whole)
    kept, text, tokens = transcript, whole, total
    for _ in range(_ROUNDS):
        # Tokens are not spread evenly over a text: a little less than the rule of three, then look again.
        room = int(len(kept) * max(0.0, 1 - (tokens - budget) / _share(tokens, text, kept)) * 0.99)
        kept = cut(transcript, room, settings.keep)
        text = settings.template.replace(PLACE, kept)
        counted = await count(text) if exact is not None else None
        tokens = counted if counted is not None else estimate(text)
        if tokens <= budget or not kept:
            break
    trim = Trim(
        from_tokens=total,
        to_tokens=tokens,
        from_characters=len(transcript),
        to_characters=len(kept),
        keep=settings.keep,
        counted="estimate" if exact is None else "server",
    )
    return Prompt(text, trim)


def estimate(text: str) -> int:
    """About how many tokens that is."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


def cut(text: str, size: int, keep: Keep) -> str:
    """At most `size` characters of a text, cut between words."""
    if size >= len(text):
        return text
    if keep == "start":
        return _head(text, size)
    half = (size - len(GAP)) // 2
    return _head(text, half) + GAP + _head(text[::-1], half)[::-1] if half > 0 else ""


def _head(text: str, size: int) -> str:
    if size <= 0 or text[size : size + 1].isspace():
        return text[: max(size, 0)].rstrip()
    words = text[:size].rsplit(None, 1)
    return words[0] if len(words) == 2 else text[:size]


def _share(tokens: int, text: str, kept: str) -> float:
    """How many of a prompt's tokens the transcript in it has."""
    return max(1.0, tokens * len(kept) / len(text))
