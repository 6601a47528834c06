"""`epp demo`: the same workload through the gateway twice, by round robin and by our default policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from math import ceil
from random import Random
from statistics import fmean

import aiohttp

from epp.clock import Clock
from epp.sim.load import Player, Timing
from epp.sim.workload import Conversation, Profile, conversations

ROUND_ROBIN = "round robin"
DEFAULT = "epp default"
SERVERS = 3
MODEL = "sim"
SIM_FLAGS = ("--model", MODEL, "--hardware", "h100-8b", "--num-gpu-blocks", "2400", "--max-model-len", "16384")
"""For `epp sim`: each cache holds a little more than a third of `Profile`'s system prompts, so that all fit if every
prompt has a home, and thrash if every prompt visits every server."""
BAR = 36

StartArm = Callable[[str], AbstractAsyncContextManager[str]]
"""Given an arm's name, a gateway that routes so while the context is open; its base URL."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What one run gave. `queries` and `hits` are tokens, from the servers' own prefix cache counters."""

    name: str
    timings: list[Timing]
    queries: float
    hits: float

    @property
    def answered(self) -> list[Timing]:
        return [timing for timing in self.timings if not timing.error]

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens that no server had to compute; 0 before any."""
        return self.hits / self.queries if self.queries else 0.0

    @property
    def ttfts(self) -> list[float]:
        """Seconds, ascending."""
        return sorted(timing.ttft for timing in self.answered)


async def compare(
    start_arm: StartArm,
    servers: Sequence[str],
    clock: Clock,
    say: Callable[[str], None],
    *,
    profile: Profile | None = None,
    seed: int = 0,
    model: str = MODEL,
    ours: str = DEFAULT,
) -> list[Arm]:
    """Runs round robin, then the arm called `ours`, against `servers` ("host:port"); says what it does and found.

    Both begin with empty prefix caches.
    The caches are emptied by `/reset_prefix_cache`, which real vLLM serves with `VLLM_SERVER_DEV_MODE=1` only.
    """
    profile = profile or Profile()
    work = conversations(profile, Random(seed))
    requests = len(work) * profile.turns
    say(
        f"{requests} requests of {profile.groups} groups sharing {profile.system_tokens:,} tokens each, "
        f"{profile.rate * profile.turns:.0f} a second, {len(servers)} servers"
    )
    arms = []
    for name in (ROUND_ROBIN, ours):
        say(f"  {name}: {work[-1].at:.0f} s …")
        async with start_arm(name) as base_url:
            player = Player(base_url, model, profile.answer_tokens, clock)
            arms.append(await _run(name, player, servers, work))
    say(report(arms))
    return arms


async def _run(name: str, player: Player, servers: Sequence[str], work: Sequence[Conversation]) -> Arm:
    async with aiohttp.ClientSession() as http:
        for server in servers:
            async with http.post(f"http://{server}/reset_prefix_cache") as response:
                response.raise_for_status()
        before = await _counters(http, servers)
        timings = await player.play(work)
        after = await _counters(http, servers)
    return Arm(name, timings, after[0] - before[0], after[1] - before[1])


async def _counters(http: aiohttp.ClientSession, servers: Sequence[str]) -> tuple[float, float]:
    """Tokens looked up and found, over all servers."""

    async def page(server: str) -> str:
        async with http.get(f"http://{server}/metrics") as response:
            return await response.text()

    pages = await asyncio.gather(*map(page, servers))
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    queries, hits = (
        sum(float(line.rsplit(" ", 1)[1]) for text in pages for line in text.splitlines() if line.startswith(name))
        for name in names
    )
    return queries, hits


def report(arms: Sequence[Arm]) -> str:
    """The table and the plot."""
    width = _name_width(arms)
    lines = ["", f"{'':{width}}{'TTFT mean':>11}{'p50':>9}{'p99':>9}{'hit rate':>10}{'failed':>8}"]
    for arm in arms:
        ttfts = arm.ttfts
        failed = len(arm.timings) - len(arm.answered)
        figures = [_milliseconds(value) for value in (fmean(ttfts or [0]), rank(ttfts, 0.5), rank(ttfts, 0.99))]
        shown = f"{figures[0]:>11}{figures[1]:>9}{figures[2]:>9}"
        lines.append(f"{arm.name:{width}}{shown}{arm.hit_rate:>10.0%}{failed:>8}")
    lines += ["", *_plot(arms)]
    if errors := {timing.error for arm in arms for timing in arm.timings if timing.error}:
        lines += ["", *sorted(errors)[:3]]
    return "\n".join(lines)


def rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values; 0 of none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _name_width(arms: Sequence[Arm]) -> int:
    return max(14, *(len(arm.name) + 1 for arm in arms))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _plot(arms: Sequence[Arm]) -> list[str]:
    """One bar for each arm at several percentiles, on one scale."""
    top = max((arm.ttfts[-1] for arm in arms if arm.ttfts), default=0.0)
    lines = ["time to first token"]
    width = _name_width(arms) - 1
    for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        for index, arm in enumerate(arms):
            value = rank(arm.ttfts, share)
            start = f"{label if index == 0 else '':5}{arm.name:{width}}"
            lines.append(f"{start}{_bar(value / top if top else 0)} {_milliseconds(value)}")
    return lines


def _bar(share: float) -> str:
    """A bar of eighths of a character."""
    eighths = round(share * BAR * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
