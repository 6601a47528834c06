"""The admin listener over a real socket, and `epp explain` as its client."""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from epp.cli import explain
from epp.clock import ManualClock
from epp.obs.admin import AdminServer
from epp.obs.decision_log import DecisionLog
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolCollector
from tests.unit.obs.decisions import BrokenDumper, ExcludeC, StubQueueScorer, build_decision_record


class AdminSite:
    """A started admin listener and a client for it."""

    def __init__(self, admin: AdminServer, session: aiohttp.ClientSession, decision_log: DecisionLog) -> None:
        self.admin = admin
        self.session = session
        self.decision_log = decision_log
        self.is_ready = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin.port}"

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        reply = await self.session.get(self.url + path, headers=headers)
        await reply.read()
        return reply

    async def json(self, path: str) -> Any:
        reply = await self.get(path)
        assert reply.content_type == "application/json"
        return await reply.json()


@pytest.fixture
async def site(pool: PoolCollector, clock: ManualClock) -> AsyncIterator[AdminSite]:
    decision_log, metrics = DecisionLog(limit=4), Metrics()
    metrics.registry.register(pool)
    plugins = {"short": StubQueueScorer(), "not-c": ExcludeC(), "bad": BrokenDumper()}
    admin = AdminServer(
        metrics,
        pool,
        decision_log,
        clock,
        is_ready=lambda: site.is_ready,
        count_open_streams=lambda: 5,
        version="1.2.3",
        configuration="default",
        plugins=plugins,
    )
    await admin.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        site = AdminSite(admin, session, decision_log)
        yield site
    await admin.close()


async def test_metrics_are_served_in_the_requested_format(site: AdminSite) -> None:
    plain = await site.get("/metrics")
    strict = await site.get("/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert strict.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert (await strict.read()).endswith(b"# EOF\n")
    assert 'llm_d_epp_ready_endpoints{name="pool-a"} 2.0' in await plain.text()


async def test_probes_follow_readiness(site: AdminSite) -> None:
    assert (await site.get("/readyz")).status == 200
    site.is_ready = False
    assert (await site.get("/readyz")).status == 503
    assert (await site.get("/healthz")).status == 200


async def test_state_shows_pool_and_picker(site: AdminSite, clock: ManualClock) -> None:
    site.decision_log.record(build_decision_record())
    clock.advance(0.25)
    state = await site.json("/debug/state")
    assert state["pool"] == "pool-a"
    assert state["version"] == "1.2.3"
    assert state["configuration"] == "default"
    assert [row["name"] for row in state["endpoints"]] == [f"default/{pod}-rank-0" for pod in ("busy", "calm", "dark")]
    assert state["totals"]["running"] == 12
    assert state["picker"]["open_streams"] == 5
    assert state["picker"]["decisions"] == 1
    assert state["picker"]["uptime_seconds"] == 0.25
    assert state["picker"]["rss_bytes"] > 1 << 20


async def test_plugin_states_or_the_reason_why_there_is_none(site: AdminSite) -> None:
    rendered = await site.json("/debug/plugins/state")
    assert rendered["timestamp"].endswith("Z")
    assert rendered["plugins"] == {
        "short": {"type": "short", "state": {"seen": 3}},
        "not-c": {"type": "not-c", "message": "plugin does not support state dumping"},
        "bad": {"type": "broken", "message": "state could not be dumped: no state"},
    }


async def test_a_decision_is_rendered_with_scores_and_filters(site: AdminSite) -> None:
    site.decision_log.record(build_decision_record())
    [rendered] = (await site.json("/debug/decisions"))["decisions"]
    assert rendered["request_id"] == "r-1"
    assert rendered["destination"] == "10.0.0.1:8001"
    [profile] = rendered["profiles"]
    assert [item["name"] for item in profile["candidates"]] == ["a", "b", "c"]
    assert profile["filters"][0]["dropped"] == ["c"]
    assert profile["scorers"][0]["scores"] == {"a": 0.0, "b": 1.0}
    assert profile["totals"] == {"a": 0.0, "b": 2.0}
    assert profile["picked"] == ["b"]


async def test_decisions_are_bounded_filtered_and_newest_first(site: AdminSite) -> None:
    for i in range(6):
        site.decision_log.record(build_decision_record(f"r-{i}"))
    everything = (await site.json("/debug/decisions?limit=999"))["decisions"]
    assert [item["request_id"] for item in everything] == ["r-5", "r-4", "r-3", "r-2"]
    assert len((await site.json("/debug/decisions?limit=2"))["decisions"]) == 2
    [one] = (await site.json("/debug/decisions?request_id=r-3"))["decisions"]
    assert one["request_id"] == "r-3"
    assert (await site.get("/debug/decisions?limit=some")).status == 400


async def test_the_page_loads_no_external_resources(site: AdminSite) -> None:
    reply = await site.get("/")
    page = await reply.text()
    assert reply.content_type == "text/html"
    assert "debug/state" in page
    assert "://" not in page


async def test_explain_prints_the_decisions(site: AdminSite) -> None:
    site.decision_log.record(build_decision_record("r-1"))
    site.decision_log.record(build_decision_record("r-2", rejection="ResourceExhausted - full"))
    code, out = await run_explain(site.url)
    assert code == 0
    assert "r-2  llama  ResourceExhausted - full  50 us" in out
    assert "-> 10.0.0.1:8001" in out
    [best] = [line.split() for line in out.split("r-1")[1].splitlines() if line.lstrip().startswith("*")]
    assert best == ["*", "b", "1.000", "2.000"]
    assert "not-c" in out


async def test_explain_replaces_control_characters_of_clients(site: AdminSite) -> None:
    site.decision_log.record(build_decision_record("r-\x1b[31m\n1"))
    _, out = await run_explain(site.url)
    assert "r-?[31m?1  llama" in out


async def test_explain_prints_one_request_as_json(site: AdminSite) -> None:
    site.decision_log.record(build_decision_record("r-1"))
    site.decision_log.record(build_decision_record("r-2"))
    code, out = await run_explain(site.url, "r-1", "--json")
    assert code == 0
    assert '"request_id": "r-1"' in out
    assert "r-2" not in out


async def test_explain_without_decisions_or_picker_fails(site: AdminSite, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = await run_explain(site.url, "unheard-of")
    assert code == 1
    assert "has no decision on request unheard-of" in capsys.readouterr().err
    await site.admin.close()
    code, _ = await run_explain("http://127.0.0.1:9")
    assert code == 1


async def run_explain(url: str, *arguments: str) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    out = io.StringIO()
    code = await asyncio.to_thread(explain.run, parser.parse_args(["--url", url, *arguments]), out)
    return code, out.getvalue()
