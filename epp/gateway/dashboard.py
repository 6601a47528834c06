"""Terminal output of `epp up`: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from epp.clock import Clock
from epp.gateway.dashboard_data import DashboardData, DashboardReader, EndpointRow
from epp.gateway.gateway import Gateway

LIVE_INTERVAL_SECONDS, PLAIN_INTERVAL_SECONDS = 1.0, 10.0
_COLUMN_TITLES = ("endpoint", "waiting", "running", "KV cache", "in flight", "hits", "req/s", "errors")


class Dashboard:
    """Prints lines to `console`; with `live` a table of the endpoints is kept below them."""

    def __init__(self, clock: Clock, *, live: bool, console: Console | None = None) -> None:
        self._clock = clock
        self._live = live
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def print_line(self, text: str) -> None:
        """Prints one message, of one or more lines."""
        self._console.print(text, markup=False)

    def print_welcome(self, gateway: Gateway, model: str) -> None:
        """Prints the gateway's addresses, and a curl command to try it with `model`."""
        body = f'{{"model": "{model}", "max_tokens": 32, "stream": true, "prompt": "Once upon a time"}}'
        lines = [
            f"gateway   {gateway.url}/v1   ->  {', '.join(gateway.endpoints) or 'endpoints discovered by the picker'}",
            *([f"picker    {gateway.metrics_url}   (page; /metrics; `epp explain`)"] if gateway.metrics_url else []),
            f"logs      {gateway.folder}   Envoy's admin page: {gateway.admin_url}",
            "",
            "try it",
            f"  curl -N {gateway.url}/v1/completions -H 'content-type: application/json' -d '{body}'",
            "",
            "Ctrl-C stops everything.",
        ]
        self.print_line("\n".join(lines))

    async def run(self, gateway: Gateway) -> None:
        """Updates the display until cancelled."""
        reader = DashboardReader(gateway, self._clock)
        try:
            if self._live:
                await self._run_live(reader)
            else:
                await self._run_plain(reader)
        finally:
            await reader.close()

    async def _run_live(self, reader: DashboardReader) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(render_table(await reader.read()), refresh=True)
                await asyncio.sleep(LIVE_INTERVAL_SECONDS)

    async def _run_plain(self, reader: DashboardReader) -> None:
        printed = ""
        while True:
            line = format_summary(await reader.read())
            if line != printed:
                self.print_line(line)
            printed = line
            await asyncio.sleep(PLAIN_INTERVAL_SECONDS)


def render_table(data: DashboardData) -> Group:
    """The live table, a line of totals, and the last decisions."""
    table = Table(*_COLUMN_TITLES, box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in data.endpoints:
        table.add_row(*format_cells(row))
    parts = [f"{data.request_rate:.1f} requests/s"]
    if not data.picker_available:
        parts.append("no picker")
    if data.picker_cores is not None:
        parts.append(f"picker {data.picker_cores:.0%} of a core")
    if data.picker_rss_bytes:
        parts.append(f"{data.picker_rss_bytes / 1e6:.0f} MB")
    unscraped = [row.target for row in data.endpoints if row.waiting is None and row.running is None]
    if unscraped and data.picker_available:
        parts.append(f"no metrics from {', '.join(unscraped[:3])}{', …' if len(unscraped) > 3 else ''}")
    decisions = [Text(f"  {model or '(no model)'} -> {outcome}", style="dim") for model, outcome in data.decisions]
    title = [Text("last decisions", style="dim")] if decisions else []
    return Group(table, Text("   ".join(parts)), *title, *decisions)


def format_cells(row: EndpointRow) -> list[str]:
    """The cells of one table row; unknown values are dashes."""
    return [
        row.target,
        _format_number(row.waiting),
        _format_number(row.running),
        _format_percent(row.kv_usage),
        _format_number(row.inflight),
        _format_percent(row.prefix_hit_rate),
        "-" if row.request_rate is None else f"{row.request_rate:.1f}",
        str(row.errors),
    ]


def format_summary(data: DashboardData) -> str:
    """The whole gateway in one line."""
    endpoints = []
    for row in data.endpoints:
        _, waiting, running, kv_usage, _, hits, *_ = format_cells(row)
        endpoints.append(f"{row.target} {waiting}+{running} KV {kv_usage} hits {hits}")
    return f"{data.request_rate:.1f} requests/s; waiting+running: " + ", ".join(endpoints)


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _format_percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
