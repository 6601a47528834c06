"""`epp demo`: sends one workload through the gateway twice, with round robin and with the default policy."""

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
from epp.sim.load import ConversationPlayer, RequestTiming
from epp.sim.workload import Conversation, WorkloadProfile, generate_conversations

ROUND_ROBIN = "round robin"
DEFAULT_POLICY = "epp default"
SERVERS = 3
MODEL = "sim"
SIM_FLAGS = ("--model", MODEL, "--hardware", "h100-8b", "--num-gpu-blocks", "2400", "--max-model-len", "16384")
"""For `epp sim`. Each cache holds a little more than a third of the system prompts of `WorkloadProfile`: all fit if
each prompt is sent to one server only, and evict each other if each is sent to every server."""
BAR_WIDTH = 36

StartGateway = Callable[[str], AbstractAsyncContextManager[str]]
"""Starts a gateway with the policy of this name for as long as the context is open; the value is its base URL."""


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """The result of one run. `queried_tokens` and `hit_tokens` are from the servers' prefix cache counters."""

    name: str
    timings: list[RequestTiming]
    queried_tokens: float
    hit_tokens: float

    @property
    def successful(self) -> list[RequestTiming]:
        return [timing for timing in self.timings if not timing.error]

    @property
    def hit_rate(self) -> float:
        """Share of prompt tokens found in a prefix cache; 0 without any."""
        return self.hit_tokens / self.queried_tokens if self.queried_tokens else 0.0

    @property
    def ttfts(self) -> list[float]:
        """Times to first token of the successful requests in seconds, ascending."""
        return sorted(timing.ttft_seconds for timing in self.successful)


async def compare_policies(
    start_gateway: StartGateway,
    servers: Sequence[str],
    clock: Clock,
    emit: Callable[[str], None],
    *,
    profile: WorkloadProfile | None = None,
    seed: int = 0,
    model: str = MODEL,
    policy: str = DEFAULT_POLICY,
) -> list[PolicyRun]:
    """Runs round robin, then `policy`, against `servers` (`host:port`); `emit` prints progress and report.

    Both begin with empty prefix caches, by `/reset_prefix_cache`: vLLM serves that with `VLLM_SERVER_DEV_MODE=1` only.
    """
    profile = profile or WorkloadProfile()
    work = generate_conversations(profile, Random(seed))
    requests = len(work) * profile.turns
    emit(
        f"{requests} requests of {profile.groups} groups sharing {profile.system_tokens:,} tokens each, "
        f"{profile.rate * profile.turns:.0f} a second, {len(servers)} servers"
    )
    runs = []
    for name in (ROUND_ROBIN, policy):
        emit(f"  {name}: {work[-1].starts_at:.0f} s …")
        async with start_gateway(name) as base_url:
            player = ConversationPlayer(base_url, model, profile.answer_tokens, clock)
            runs.append(await _run_policy(name, player, servers, work))
    emit(format_report(runs))
    return runs


async def _run_policy(
    name: str, player: ConversationPlayer, servers: Sequence[str], work: Sequence[Conversation]
) -> PolicyRun:
    async with aiohttp.ClientSession() as http:
        for server in servers:
            async with http.post(f"http://{server}/reset_prefix_cache") as response:
                response.raise_for_status()
        before = await _read_prefix_cache_counters(http, servers)
        timings = await player.play_conversations(work)
        after = await _read_prefix_cache_counters(http, servers)
    return PolicyRun(name, timings, after[0] - before[0], after[1] - before[1])


async def _read_prefix_cache_counters(http: aiohttp.ClientSession, servers: Sequence[str]) -> tuple[float, float]:
    """Tokens queried and hit, summed over all servers."""

    async def read_page(server: str) -> str:
        async with http.get(f"http://{server}/metrics") as response:
            return await response.text()

    pages = await asyncio.gather(*map(read_page, servers))
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    queries, hits = (
        sum(float(line.rsplit(" ", 1)[1]) for text in pages for line in text.splitlines() if line.startswith(name))
        for name in names
    )
    return queries, hits


def format_report(runs: Sequence[PolicyRun]) -> str:
    """The results as a table and a plot."""
    width = _name_width(runs)
    lines = ["", f"{'':{width}}{'TTFT mean':>11}{'p50':>9}{'p99':>9}{'hit rate':>10}{'failed':>8}"]
    for run in runs:
        ttfts = run.ttfts
        failed = len(run.timings) - len(run.successful)
        figures = [
            _format_milliseconds(value)
            for value in (fmean(ttfts or [0]), percentile(ttfts, 0.5), percentile(ttfts, 0.99))
        ]
        shown = f"{figures[0]:>11}{figures[1]:>9}{figures[2]:>9}"
        lines.append(f"{run.name:{width}}{shown}{run.hit_rate:>10.0%}{failed:>8}")
    lines += ["", *_plot_ttfts(runs)]
    if errors := {timing.error for run in runs for timing in run.timings if timing.error}:
        lines += ["", *sorted(errors)[:3]]
    return "\n".join(lines)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values; 0 if there are none."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _name_width(runs: Sequence[PolicyRun]) -> int:
    return max(14, *(len(run.name) + 1 for run in runs))


def _format_milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _plot_ttfts(runs: Sequence[PolicyRun]) -> list[str]:
    """Bars of all runs at several percentiles, on one scale."""
    top = max((run.ttfts[-1] for run in runs if run.ttfts), default=0.0)
    lines = ["time to first token"]
    width = _name_width(runs) - 1
    for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        for index, run in enumerate(runs):
            value = percentile(run.ttfts, share)
            start = f"{label if index == 0 else '':5}{run.name:{width}}"
            lines.append(f"{start}{_draw_bar(value / top if top else 0)} {_format_milliseconds(value)}")
    return lines


def _draw_bar(share: float) -> str:
    """A bar with a resolution of an eighth of a character."""
    eighths = round(share * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
