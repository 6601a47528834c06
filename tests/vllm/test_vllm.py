"""Real vLLM behind real Envoy and the real picker."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from epp.api import KV_BLOCK_COUNT, KV_BLOCK_SIZE, KV_CACHE_USAGE, RUNNING_REQUESTS, WAITING_REQUESTS, Column, Endpoints
from epp.clock import SystemClock
from epp.config.plan import PlannedDataSource
from epp.datalayer.discovery.static import StaticDiscovery
from epp.datalayer.runtime import DataLayer
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.datastore.endpoint_store import EndpointStore
from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="session")]

GROUPS = 9  # three long prompts a server fit into its cache, nine do not
ROUNDS = 6
PROMPT_CLAUSES = 95  # about 1,600 tokens of 2,048


def shared_prompt(group: int) -> str:
    """A long text that only requests of this group begin with."""
    rng = Random(group)
    words = ["licence", "copy", "grant", "work", "notice", "source", "terms", "party", "right", "claim"]
    return "\n".join(
        f"Clause {rng.randrange(10**6)}: the {rng.choice(words)} of the {rng.choice(words)}."
        for _ in range(PROMPT_CLAUSES)
    )


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(servers: list[Any]) -> AsyncIterator[Gateway]:
    settings = GatewaySettings(endpoints=tuple(server.target for server in servers), port=0, metrics_port=0)
    async with Gateway(settings) as running:
        yield running


def connect_client(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)


async def test_every_mapped_series_is_read(servers: list[Any]) -> None:
    clock = SystemClock()
    table = EndpointStore(clock)
    data_layer = DataLayer(
        table,
        clock,
        Random(1),
        refresh_interval=0.05,
        discoveries=[("static", StaticDiscovery(targets=[server.target for server in servers]))],
        data_sources=[PlannedDataSource("metrics", MetricsDataSource(), [("core", CoreMetricsExtractor())])],
    )
    await data_layer.start()
    try:
        async with asyncio.timeout(10):
            for slot in table.snapshot().live_slots.tolist():
                while math.isinf(table.last_scraped_at(slot)):
                    await asyncio.sleep(0.05)
        snapshot = table.snapshot()
        pool = Endpoints(snapshot, snapshot.live_slots)
        read: dict[Column, list[float]] = {
            column: pool[column].tolist()
            for column in (WAITING_REQUESTS, RUNNING_REQUESTS, KV_CACHE_USAGE, KV_BLOCK_SIZE, KV_BLOCK_COUNT)
        }
    finally:
        await data_layer.close()
    assert not any(math.isnan(value) for values in read.values() for value in values), read
    assert set(read[KV_BLOCK_SIZE]) == {32.0}
    assert min(read[KV_BLOCK_COUNT]) > 100


async def test_a_streamed_answer_comes_through(gateway: Gateway) -> None:
    async with connect_client(gateway) as api:
        stream = await api.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_the_load_of_the_servers_is_scraped(gateway: Gateway) -> None:
    async with connect_client(gateway) as api, aiohttp.ClientSession() as http:
        answers = [
            asyncio.ensure_future(
                api.completions.create(
                    model="tiny", prompt=f"{i}: {shared_prompt(i)}", max_tokens=200, extra_body={"ignore_eos": True}
                )
            )
            for i in range(12)
        ]
        seen: list[dict[str, float]] = []
        while not all(answer.done() for answer in answers):
            async with http.get(f"{gateway.metrics_url}/debug/state") as reply:
                seen += (await reply.json())["endpoints"]
            await asyncio.sleep(0.05)
        await asyncio.gather(*answers)
    assert max(row["running"] or 0 for row in seen) >= 1
    assert max(row["kv_usage"] or 0 for row in seen) > 0
    assert max(row["inflight_requests"] for row in seen) >= 2


async def test_prefix_routing_raises_the_hits_of_the_prefix_cache_of_vllm(servers: list[Any]) -> None:
    targets = tuple(server.target for server in servers)
    async with Gateway(GatewaySettings(endpoints=targets, port=0, metrics_port=0, round_robin=True)) as plain:
        by_turns = await measure_hit_share(plain, servers)
    async with Gateway(GatewaySettings(endpoints=targets, port=0, metrics_port=0)) as picked:
        by_prefix = await measure_hit_share(picked, servers)
    print(f"prefix cache hits of real vLLM: round robin {by_turns:.0%}, our default {by_prefix:.0%}")
    assert by_prefix > by_turns + 0.2, (by_turns, by_prefix)


async def measure_hit_share(gateway: Gateway, servers: list[Any]) -> float:
    """Sends each group's prompts in rounds; the share of prompt tokens that vLLM found in its prefix cache."""
    async with aiohttp.ClientSession() as http, connect_client(gateway) as api:
        for server in servers:
            async with http.post(f"http://{server.target}/reset_prefix_cache") as reply:
                reply.raise_for_status()
        queries, hits = await read_prefix_cache_counters(http, servers)
        order = Random(5)
        for turn in range(ROUNDS):
            groups = order.sample(range(GROUPS), GROUPS)
            for group in groups:
                await api.completions.create(
                    model="tiny", prompt=f"{shared_prompt(group)}\nQuestion {turn}?", max_tokens=2
                )
        after = await read_prefix_cache_counters(http, servers)
    return (after[1] - hits) / (after[0] - queries)


async def read_prefix_cache_counters(http: aiohttp.ClientSession, servers: list[Any]) -> tuple[float, float]:
    """Prompt tokens looked up in the prefix caches, and tokens found there, over all servers."""
    totals = [0.0, 0.0]
    for server in servers:
        async with http.get(f"http://{server.target}/metrics") as reply:
            page = await reply.text()
        for i, name in enumerate(("queries", "hits")):
            found = re.findall(rf"^vllm:prefix_cache_{name}_total{{[^}}]*}} (\S+)$", page, re.MULTILINE)
            totals[i] += sum(map(float, found))
    return totals[0], totals[1]
