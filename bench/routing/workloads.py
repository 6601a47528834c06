"""The workloads: chats of one or several turns with their arrival times, the same for every policy.

Text is hexadecimal noise, four characters a token as `epp.sim.tokens` counts, so the prefix producer has real bytes to
hash; equal seeds give equal text. Every rate below was chosen so that the best policies stay below the servers'
capacity and the worst do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import shake_128
from math import log
from pathlib import Path
from random import Random
from types import MappingProxyType

from epp.errors import EppError
from epp.sim import workload
from epp.sim.hardware import HARDWARE_PRESETS

HARDWARE = HARDWARE_PRESETS["h100-8b"]
MAX_MODEL_LEN = 131_072
TRACE_BLOCK_TOKENS = 512
TRACE_TICK_SECONDS = 3.0
"""The trace's timestamps are multiples of it, so arrivals are spread evenly over this time."""

TRACE_URL = "https://github.com/kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl"


class TraceMissing(EppError):
    """The file of the Mooncake trace does not exist; the other workloads need none."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no trace at {path}: take it from {TRACE_URL} and name it with --trace, or leave the workload out"
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """`text` is appended to the chat so far; sent `think_seconds` after the response before it."""

    text: str
    output_tokens: int
    think_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Chat:
    """The first turn is sent `starts_at` seconds after the start of the workload."""

    starts_at: float
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """`ttft_slo`: the time to first token that counts as good. `kv_blocks` 0: as many as fit on the hardware."""

    name: str
    description: str
    chats: tuple[Chat, ...]
    servers: int = 4
    kv_blocks: int = 0
    ttft_slo: float = 1.0


def random_text(rng: Random, tokens: int) -> str:
    """Random text of so many tokens."""
    return rng.randbytes(2 * tokens).hex()


def lognormal_tokens(rng: Random, median: float, sigma: float, most: int) -> int:
    """A lognormal number of tokens, between 8 and `most`."""
    return max(8, min(round(rng.lognormvariate(log(median), sigma)), most))


def build_groups(rng: Random) -> Workload:
    """The workload of `epp demo`, four times as long."""
    profile = workload.WorkloadProfile(conversations=360)
    chats = tuple(
        Chat(
            made.starts_at,
            tuple(
                Turn((made.system if i == 0 else "") + question, profile.answer_tokens, pause)
                for i, (question, pause) in enumerate(zip(made.questions, made.pauses, strict=True))
            ),
        )
        for made in workload.generate_conversations(profile, rng)
    )
    return Workload("groups", "12 groups share 6,000 tokens each; small caches, 13/s", chats, 3, 2400, 0.5)


def build_hot(rng: Random) -> Workload:
    """One system prompt shared by all; soon every server caches it, and decoding is the load."""
    chats = _build_chats_sharing_prompt(rng, 6000, lambda at: 24.0, 1500)
    return Workload("hot", "one prompt of 6,000 tokens for all, answers of 200, 24/s", chats)


def build_ramp(rng: Random) -> Workload:
    """As `hot`, after a quiet period in which one server serves all requests and alone caches the prompt."""
    chats = _build_chats_sharing_prompt(rng, 6000, lambda at: 1.0 if at < 20 else 24.0, 1200)
    return Workload("ramp", "the same at 1/s for 20 s, then 24/s", chats)


def build_document(rng: Random) -> Workload:
    """As `ramp`, with a prompt so long that computing it on a second server looks expensive."""
    chats = _build_chats_sharing_prompt(rng, 24_000, lambda at: 0.5 if at < 20 else 7.0, 500)
    return Workload("document", "one prompt of 24,000 tokens for all at 0.5/s for 20 s, then 7/s", chats)


def _build_chats_sharing_prompt(
    rng: Random, shared_tokens: int, rate_at: Callable[[float], float], requests: int
) -> tuple[Chat, ...]:
    """Chats of one turn behind a common prompt; `rate_at`: arrivals per second at a time (Poisson)."""
    system = random_text(rng, shared_tokens)
    chats = []
    at = 0.0
    for _ in range(requests):
        at += rng.expovariate(rate_at(at))
        chats.append(Chat(at, (Turn(system + random_text(rng, rng.randrange(24, 96)), 200),)))
    return tuple(chats)


def build_unshared(rng: Random) -> Workload:
    """No shared prefixes; prompt and output lengths vary widely."""
    chats = []
    at = 0.0
    for _ in range(1500):
        at += rng.expovariate(24.0)
        chats.append(
            Chat(
                at,
                (
                    Turn(
                        random_text(rng, lognormal_tokens(rng, 1000, 1.2, 32_000)),
                        lognormal_tokens(rng, 150, 0.8, 2000),
                    ),
                ),
            )
        )
    return Workload("unshared", "lognormal prompts (median 1,000) and answers (150), 24/s", tuple(chats))


def build_chats(rng: Random) -> Workload:
    """Multi-turn chats with growing contexts and a small shared system prompt."""
    system = random_text(rng, 400)
    made = []
    at = 0.0
    for _ in range(260):
        at += rng.expovariate(5.0)
        first = Turn(
            system + random_text(rng, lognormal_tokens(rng, 1500, 0.8, 16_000)), lognormal_tokens(rng, 200, 0.6, 1000)
        )
        later = (
            Turn(
                random_text(rng, lognormal_tokens(rng, 150, 0.8, 2000)),
                lognormal_tokens(rng, 200, 0.6, 1000),
                rng.expovariate(1 / 4.0),
            )
            for _ in range(5)
        )
        made.append(Chat(at, (first, *later)))
    return Workload("chats", "six turns over growing contexts, 30/s", tuple(made))


def build_bursts(rng: Random) -> Workload:
    """Bursts between two scrapes: a policy that knows scraped load only sends a whole burst to one server."""
    systems = [random_text(rng, 1000) for _ in range(4)]
    made = [
        Chat(
            2.0 * burst, (Turn(rng.choice(systems) + random_text(rng, lognormal_tokens(rng, 1500, 0.8, 16_000)), 100),)
        )
        for burst in range(40)
        for _ in range(20)
    ]
    return Workload("bursts", "20 at once every 2 s, 4 groups sharing 1,000 of some 2,500 tokens", tuple(made))


def build_mooncake(rng: Random, path: Path, *, requests: int = 2000, servers: int = 5, speed: float = 1.0) -> Workload:
    """The first requests of Mooncake's conversation trace (Qin et al., FAST 2025); raises `TraceMissing`.

    Blocks of equal `hash_ids` get equal text; how full the last one is follows from `input_length`.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for _, line in zip(range(requests), lines, strict=False)]
    except FileNotFoundError:
        raise TraceMissing(path) from None
    made = []
    for row in rows:
        body = "".join(_block_text(number) for number in row["hash_ids"])[: 4 * row["input_length"]]
        answer = max(1, min(row["output_length"], MAX_MODEL_LEN - row["input_length"]))
        at = (row["timestamp"] / 1000 + rng.random() * TRACE_TICK_SECONDS) / speed
        made.append(Chat(at, (Turn(body, answer),)))
    made.sort(key=lambda chat: chat.starts_at)
    return Workload("mooncake", f"the first {requests:,} of the conversation trace", tuple(made), servers, ttft_slo=5.0)


def _block_text(number: int) -> str:
    return shake_128(number.to_bytes(8, "little")).hexdigest(2 * TRACE_BLOCK_TOKENS)


SYNTHETIC: Mapping[str, Callable[[Random], Workload]] = MappingProxyType(
    {
        "groups": build_groups,
        "hot": build_hot,
        "ramp": build_ramp,
        "document": build_document,
        "unshared": build_unshared,
        "chats": build_chats,
        "bursts": build_bursts,
    }
)
TRACE = "mooncake"
NAMES = (*SYNTHETIC, TRACE)


def build_workload(name: str, seed: int, trace: Path) -> Workload:
    """The workload of that name, one of `NAMES`."""
    rng = Random(seed)
    return build_mooncake(rng, trace) if name == TRACE else SYNTHETIC[name](rng)
