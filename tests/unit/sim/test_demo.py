"""The comparison of two policies, through small gateways."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from epp.cli import sim
from epp.clock import SystemClock
from epp.sim import demo, tokens
from epp.sim.engine import SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import FAST
from epp.sim.load import RequestTiming
from epp.sim.workload import WorkloadProfile

SMALL = WorkloadProfile(
    groups=6, conversations=24, rate=500.0, turns=2, think_seconds=0.01, system_tokens=400, answer_tokens=8
)
Choose = Callable[[dict[str, Any]], str]


@asynccontextmanager
async def gateway(choose: Choose) -> AsyncIterator[str]:
    """Forwards each request to the server that `choose` returns."""

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        async with http.post(f"http://{choose(body)}{request.path}", json=body) as served:
            response = web.StreamResponse(status=served.status, headers={"content-type": served.content_type})
            await response.prepare(request)
            async for chunk in served.content.iter_any():
                await response.write(chunk)
            return response

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield "http://{}:{}".format(*runner.addresses[0][:2])
        finally:
            await runner.cleanup()


def in_turn(servers: Sequence[str]) -> Choose:
    turns = itertools.cycle(servers)
    return lambda body: next(turns)


def by_prefix(servers: Sequence[str]) -> Choose:
    return lambda body: servers[tokens.answer_seed(body["messages"][0]["content"].encode()) % len(servers)]


@pytest.fixture
async def three_servers() -> AsyncIterator[SimFleet]:
    """Each cache holds three of the six system prompts."""
    config = SimEngineConfig(hardware=FAST, num_gpu_blocks=110, max_model_len=1024)
    async with SimFleet(config, SystemClock(), ports=[0, 0, 0], model=demo.MODEL) as fleet:
        yield fleet


async def test_the_policy_with_affinity_has_more_prefix_hits(three_servers: SimFleet) -> None:
    def start(name: str) -> Any:
        return gateway((in_turn if name == demo.ROUND_ROBIN else by_prefix)(three_servers.targets))

    emitted: list[str] = []
    runs = await demo.compare_policies(start, three_servers.targets, SystemClock(), emitted.append, profile=SMALL)
    assert [run.name for run in runs] == [demo.ROUND_ROBIN, demo.DEFAULT_POLICY]
    assert [timing.error for run in runs for timing in run.timings if timing.error] == []
    assert [len(run.timings) for run in runs] == [48, 48]
    assert all(timing.output_tokens == 8 and timing.ttft_seconds > 0 for run in runs for timing in run.timings)
    assert runs[0].queried_tokens == runs[1].queried_tokens == sum(timing.prompt_tokens for timing in runs[0].timings)
    assert runs[0].hit_rate < runs[1].hit_rate
    assert "48 requests of 6 groups" in emitted[0]
    assert "hit rate" in emitted[-1]


def test_report() -> None:
    slow = demo.PolicyRun(
        demo.ROUND_ROBIN, [RequestTiming(0, 0, ttft_seconds=each / 100) for each in range(1, 101)], 1000, 250
    )
    fast = demo.PolicyRun(
        demo.DEFAULT_POLICY,
        [RequestTiming(0, 0, ttft_seconds=0.1), RequestTiming(1, 0, error="HTTP 503: no")],
        1000,
        900,
    )
    text = demo.format_report([slow, fast])
    assert "round robin        505 ms   500 ms   990 ms       25%       0" in text
    assert "epp default        100 ms   100 ms   100 ms       90%       1" in text
    assert "max  round robin  " + "█" * demo.BAR_WIDTH + " 1000 ms" in text
    assert text.endswith("HTTP 503: no")


def test_a_long_name_widens_the_columns() -> None:
    runs = [
        demo.PolicyRun(name, [RequestTiming(0, 0, ttft_seconds=0.1)], 1, 1)
        for name in (demo.ROUND_ROBIN, "your configuration")
    ]
    lines = demo.format_report(runs).splitlines()
    assert len({len(line) for line in lines[1:4]}) == 1
    assert "max  round robin       █" in demo.format_report(runs)


def test_percentile() -> None:
    assert [demo.percentile([1, 2, 3, 4], share) for share in (0, 0.5, 0.99, 1)] == [1, 2, 4, 4]
    assert demo.percentile([], 0.5) == 0


def test_each_cache_holds_a_little_more_than_a_third_of_the_prompts() -> None:
    parser = argparse.ArgumentParser()
    sim.add_arguments(parser)
    cache = sim.build_engine_config(parser.parse_args(demo.SIM_FLAGS))
    prompts = WorkloadProfile().groups * WorkloadProfile().system_tokens
    assert prompts / demo.SERVERS < cache.usable_blocks * cache.block_size < prompts
