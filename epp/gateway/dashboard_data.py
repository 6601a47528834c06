"""The numbers of the live view: from the picker, from Envoy, from the model servers themselves."""

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

_PREFIX_CACHE_METRIC = re.compile(
    r"^vllm:(?:gpu_)?prefix_cache_(hits|queries)(?:_total)?(?:\{[^}]*\})? (\S+)$", re.MULTILINE
)
_HOST_STATISTIC = re.compile(r"^pool::(.+:\d+)::(rq_total|rq_error|rq_active)::(\d+)\s*$", re.MULTILINE)


class EndpointRow(msgspec.Struct):
    """One endpoint; None is unknown."""

    target: str
    waiting: float | None = None
    running: float | None = None
    kv_usage: float | None = None
    inflight: float | None = None
    prefix_hit_rate: float | None = None
    request_rate: float | None = None
    errors: int = 0


class DashboardData(msgspec.Struct):
    """One look at the whole gateway."""

    endpoints: list[EndpointRow] = []
    picker_cores: float | None = None
    picker_rss_bytes: int | None = None
    request_rate: float = 0.0
    decisions: list[tuple[str, str]] = []
    picker_available: bool = False


class DashboardReader:
    """Reads all sources at once; what does not answer is unknown in that look."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._previous: tuple[float, Mapping[str, int], float | None] = (0.0, {}, None)

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def read(self) -> DashboardData:
        """One look; rates are over the time since the last one."""
        gateway = self._gateway
        state, decisions, hosts, *pages = await asyncio.gather(
            self._fetch_json(f"{gateway.metrics_url}/debug/state" if gateway.metrics_url else ""),
            self._fetch_json(f"{gateway.metrics_url}/debug/decisions?limit=5" if gateway.metrics_url else ""),
            self._fetch_text(f"{gateway.admin_url}/clusters"),
            *(self._fetch_text(f"http://{endpoint}/metrics") for endpoint in gateway.endpoints),
        )
        shares = dict(zip(gateway.endpoints, map(parse_prefix_hit_rate, pages), strict=True))
        return self._build_data(state, decisions, parse_host_counts(hosts), shares)

    def _build_data(
        self,
        state: dict[str, Any],
        decisions: dict[str, Any],
        counts: dict[str, dict[str, int]],
        shares: Mapping[str, float | None],
    ) -> DashboardData:
        now, (then, totals_then, cpu_then) = self._clock.now(), self._previous
        totals = {target: count.get("rq_total", 0) for target, count in counts.items()}
        cpu = state.get("picker", {}).get("cpu_seconds")
        span = now - then if then else 0.0
        rows = {target: EndpointRow(target) for target in (*self._gateway.endpoints, *totals)}
        for shown in state.get("endpoints", []):
            target = str(shown.get("address") or shown.get("target") or shown.get("name", "?"))
            row = rows.setdefault(target, EndpointRow(target))
            row.waiting, row.running = shown.get("waiting"), shown.get("running")
            row.kv_usage, row.inflight = shown.get("kv_usage"), shown.get("inflight_requests")
        for target, row in rows.items():
            row.prefix_hit_rate = shares.get(target)
            row.errors = counts.get(target, {}).get("rq_error", 0)
            if span and target in totals:
                row.request_rate = max(0, totals[target] - totals_then.get(target, 0)) / span
        self._previous = now, totals, cpu
        known = span and cpu is not None and cpu_then is not None
        return DashboardData(
            endpoints=list(rows.values()),
            picker_cores=max(0.0, cpu - cpu_then) / span if known else None,
            picker_rss_bytes=state.get("picker", {}).get("rss_bytes"),
            request_rate=sum(row.request_rate or 0.0 for row in rows.values()),
            decisions=[
                (str(one.get("model", "")), str(one.get("refusal") or one.get("destination", "")))
                for one in decisions.get("decisions", [])
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
            async with self._session.get(url) as answer:
                return await answer.text() if answer.status == 200 else ""
        except (OSError, TimeoutError, aiohttp.ClientError, UnicodeDecodeError):
            return ""


def parse_prefix_hit_rate(page: str) -> float | None:
    """Share of prompt tokens found in the KV cache since the server's start, from vLLM's metrics page."""
    sums = {"hits": 0.0, "queries": 0.0}
    for name, value in _PREFIX_CACHE_METRIC.findall(page):
        sums[name] += float(value)
    return sums["hits"] / sums["queries"] if sums["queries"] else None


def parse_host_counts(clusters: str) -> dict[str, dict[str, int]]:
    """Request counts by endpoint, from Envoy's `/clusters`."""
    counts: dict[str, dict[str, int]] = {}
    for target, name, value in _HOST_STATISTIC.findall(clusters):
        counts.setdefault(target, {})[name] = int(value)
    return counts
