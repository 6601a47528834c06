"""Data of the dashboard, read from the picker's debug pages, Envoy's admin page and the model servers' metrics."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from epp.clock import Clock
from epp.gateway.gateway import Gateway

# vLLM's counters; older versions prefix them with gpu_.
_PREFIX_CACHE_METRIC = re.compile(
    r"^vllm:(?:gpu_)?prefix_cache_(hits|queries)(?:_total)?(?:\{[^}]*\})? (\S+)$", re.MULTILINE
)
# A line of Envoy's /clusters page.
_HOST_STATISTIC = re.compile(r"^pool::(.+:\d+)::(rq_total|rq_error|rq_active)::(\d+)\s*$", re.MULTILINE)


class EndpointRow(msgspec.Struct):
    """One endpoint; None is unknown. Rates are per second, shares from 0 to 1."""

    target: str
    waiting: float | None = None
    running: float | None = None
    kv_usage: float | None = None
    inflight: float | None = None
    prefix_hit_rate: float | None = None
    request_rate: float | None = None
    errors: int = 0


class DashboardData(msgspec.Struct):
    """State of the whole gateway at one time. `decisions` are pairs of model and destination, or refusal."""

    endpoints: list[EndpointRow] = []
    picker_cores: float | None = None
    picker_rss_bytes: int | None = None
    request_rate: float = 0.0
    decisions: list[tuple[str, str]] = []
    picker_available: bool = False


class DashboardReader:
    """Polls all sources concurrently; values of a source that does not respond are unknown in that poll."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        # Of the last poll: time, total requests by endpoint, CPU seconds of the picker.
        self._previous: tuple[float, Mapping[str, int], float | None] = (0.0, {}, None)

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def read(self) -> DashboardData:
        """One poll; rates are averages since the previous one."""
        gateway = self._gateway
        state, decisions, clusters, *pages = await asyncio.gather(
            self._fetch_json(f"{gateway.metrics_url}/debug/state" if gateway.metrics_url else ""),
            self._fetch_json(f"{gateway.metrics_url}/debug/decisions?limit=5" if gateway.metrics_url else ""),
            self._fetch_text(f"{gateway.admin_url}/clusters"),
            *(self._fetch_text(f"http://{endpoint}/metrics") for endpoint in gateway.endpoints),
        )
        hit_rates = dict(zip(gateway.endpoints, map(parse_prefix_hit_rate, pages), strict=True))
        return self._build_data(state, decisions, parse_host_counts(clusters), hit_rates)

    def _build_data(
        self,
        state: dict[str, Any],
        decisions: dict[str, Any],
        counts: dict[str, dict[str, int]],
        hit_rates: Mapping[str, float | None],
    ) -> DashboardData:
        now, (previous_time, previous_totals, previous_cpu) = self._clock.now(), self._previous
        totals = {target: count.get("rq_total", 0) for target, count in counts.items()}
        cpu = state.get("picker", {}).get("cpu_seconds")
        elapsed = now - previous_time if previous_time else 0.0
        rows = {target: EndpointRow(target) for target in (*self._gateway.endpoints, *totals)}
        for endpoint in state.get("endpoints", []):
            target = str(endpoint.get("address") or endpoint.get("target") or endpoint.get("name", "?"))
            row = rows.setdefault(target, EndpointRow(target))
            row.waiting, row.running = endpoint.get("waiting"), endpoint.get("running")
            row.kv_usage, row.inflight = endpoint.get("kv_usage"), endpoint.get("inflight_requests")
        for target, row in rows.items():
            row.prefix_hit_rate = hit_rates.get(target)
            row.errors = counts.get(target, {}).get("rq_error", 0)
            if elapsed and target in totals:
                row.request_rate = max(0, totals[target] - previous_totals.get(target, 0)) / elapsed
        self._previous = now, totals, cpu
        cpu_known = elapsed and cpu is not None and previous_cpu is not None
        return DashboardData(
            endpoints=list(rows.values()),
            picker_cores=max(0.0, cpu - previous_cpu) / elapsed if cpu_known else None,
            picker_rss_bytes=state.get("picker", {}).get("rss_bytes"),
            request_rate=sum(row.request_rate or 0.0 for row in rows.values()),
            decisions=[
                (str(decision.get("model", "")), str(decision.get("refusal") or decision.get("destination", "")))
                for decision in decisions.get("decisions", [])
            ],
            picker_available=bool(state),
        )

    async def _fetch_json(self, url: str) -> dict[str, Any]:
        text = await self._fetch_text(url)
        try:
            value = json.loads(text) if text else {}
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    async def _fetch_text(self, url: str) -> str:
        if not url:
            return ""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0), trust_env=False)
        try:
            async with self._session.get(url) as response:
                return await response.text() if response.status == 200 else ""
        except (OSError, TimeoutError, aiohttp.ClientError, UnicodeDecodeError):
            return ""


def parse_prefix_hit_rate(metrics_page: str) -> float | None:
    """Share of prompt tokens found in the KV cache since the server started, from vLLM's metrics page."""
    sums = {"hits": 0.0, "queries": 0.0}
    for name, value in _PREFIX_CACHE_METRIC.findall(metrics_page):
        sums[name] += float(value)
    return sums["hits"] / sums["queries"] if sums["queries"] else None


def parse_host_counts(clusters_page: str) -> dict[str, dict[str, int]]:
    """Request counts by endpoint, from Envoy's `/clusters` page."""
    counts: dict[str, dict[str, int]] = {}
    for target, name, value in _HOST_STATISTIC.findall(clusters_page):
        counts.setdefault(target, {})[name] = int(value)
    return counts
