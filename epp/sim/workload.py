"""A workload of conversations that share prefixes: each group of them has one long system prompt."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from epp.sim import tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProfile:
    """Parameters of the workload.

    There are `groups` system prompts of `system_tokens`. Conversations begin at `rate` a second (a Poisson process),
    each in a random group. Each has `turns` questions of `question_tokens`, answered with `answer_tokens`; the pauses
    between them are exponential with mean `think_seconds`. Tokens are counted without those of the chat template.
    """

    groups: int = 12
    conversations: int = 90
    rate: float = 6.5
    turns: int = 2
    think_seconds: float = 0.8
    system_tokens: int = 6000
    question_tokens: int = 48
    answer_tokens: int = 32


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation. `starts_at` in seconds from the start; `pauses` in seconds before each question."""

    starts_at: float
    group: int
    system: str
    questions: tuple[str, ...]
    pauses: tuple[float, ...]


def generate_conversations(profile: WorkloadProfile, rng: Random) -> list[Conversation]:
    """The conversations in order of their start. Equal seeds give equal workloads."""
    systems = [_generate_text(profile.system_tokens, rng) for _ in range(profile.groups)]
    generated = []
    starts_at = 0.0
    for _ in range(profile.conversations):
        starts_at += rng.expovariate(profile.rate)
        group = rng.randrange(profile.groups)
        questions = tuple(_generate_text(profile.question_tokens, rng) for _ in range(profile.turns))
        pauses = (0.0, *(rng.expovariate(1 / profile.think_seconds) for _ in range(profile.turns - 1)))
        generated.append(Conversation(starts_at, group, systems[group], questions, pauses))
    return generated


def _generate_text(count: int, rng: Random) -> str:
    """Pseudo-language of `count` tokens."""
    return tokens.answer_text(rng.getrandbits(64), 0, count)
