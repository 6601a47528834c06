"""A workload of conversations that share prefixes: groups of users behind one long system prompt each."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from epp.sim import tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProfile:
    """`groups` system prompts of `system_tokens`; conversations begin at `rate` a second (Poisson), each in a group by
    chance, and take `turns` turns of `question_tokens`, answered with `answer_tokens`, a mean of `think_seconds` apart
    (exponential). Token counts are those of `epp.sim.tokens`, the chat template's own not counted.
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
    """When it begins, in seconds from the start; who speaks; what is asked, with the pause before each question."""

    starts_at: float
    group: int
    system: str
    questions: tuple[str, ...]
    pauses: tuple[float, ...]


def generate_conversations(profile: WorkloadProfile, rng: Random) -> list[Conversation]:
    """The workload, in order of beginning; equal seeds give equal workloads."""
    systems = [_generate_text(profile.system_tokens, rng) for _ in range(profile.groups)]
    made = []
    at = 0.0
    for _ in range(profile.conversations):
        at += rng.expovariate(profile.rate)
        group = rng.randrange(profile.groups)
        questions = tuple(_generate_text(profile.question_tokens, rng) for _ in range(profile.turns))
        pauses = (0.0, *(rng.expovariate(1 / profile.think_seconds) for _ in range(profile.turns - 1)))
        made.append(Conversation(at, group, systems[group], questions, pauses))
    return made


def _generate_text(count: int, rng: Random) -> str:
    """Pseudo-language of `count` tokens."""
    return tokens.answer_text(rng.getrandbits(64), 0, count)
