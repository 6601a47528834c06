"""What `epp up` shows while it runs: a table that renews itself, or plain lines."""

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
    """Lines go to `console`; with `live` a table stays below them."""

    def __init__(self, clock: Clock, *, live: bool, console: Console | None = None) -> None:
        self._clock = clock
        self._live = live
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def print_line(self, text: str) -> None:
        """One message."""
        self._console.print(text, markup=False)

    def print_welcome(self, gateway: Gateway, model: str) -> None:
        """Where it serves, and how to try it with `model`."""
        body = f'{{"model": "{model}", "max_tokens": 32, "stream": true, "prompt": "Once upon a time"}}'
        lines = [
            f"gateway   {gateway.url}/v1   ->  {', '.join(gateway.endpoints) or 'endpoints that the picker finds'}",
            *([f"picker    {gateway.metrics_url}   (page; /metrics; `epp explain`)"] if gateway.metrics_url else []),
            f"logs      {gateway.folder}   Envoy's admin page: {gateway.admin_url}",
            "",
            "try this",
            f"  curl -N {gateway.url}/v1/completions -H 'content-type: application/json' -d '{body}'",
            "",
            "Ctrl-C ends everything.",
        ]
        self.print_line("\n".join(lines))

    async def run(self, gateway: Gateway) -> None:
        """Until cancelled."""
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
        said = ""
        while True:
            line = format_summary(await reader.read())
            if line != said:
                self.print_line(line)
            said = line
            await asyncio.sleep(PLAIN_INTERVAL_SECONDS)


def render_table(numbers: DashboardData) -> Group:
    """The live view of one look."""
    table = Table(*_COLUMN_TITLES, box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in numbers.endpoints:
        table.add_row(*format_cells(row))
    parts = [f"{numbers.request_rate:.1f} requests/s"]
    if not numbers.picker_available:
        parts.append("no picker")
    if numbers.picker_cores is not None:
        parts.append(f"picker {numbers.picker_cores:.0%} of a core")
    if numbers.picker_rss_bytes:
        parts.append(f"{numbers.picker_rss_bytes / 1e6:.0f} MB")
    silent = [row.target for row in numbers.endpoints if row.waiting is None and row.running is None]
    if silent and numbers.picker_available:
        parts.append(f"no metrics from {', '.join(silent[:3])}{', …' if len(silent) > 3 else ''}")
    last = [Text(f"  {model or '(no model)'} -> {where}", style="dim") for model, where in numbers.decisions]
    return Group(table, Text("   ".join(parts)), *([Text("last decisions", style="dim")] if last else []), *last)


def format_cells(row: EndpointRow) -> list[str]:
    """One row as it is shown; unknown is a dash."""
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


def format_summary(numbers: DashboardData) -> str:
    """One line for the whole gateway."""
    shown = []
    for row in numbers.endpoints:
        _, waiting, running, kv_usage, _, hits, *_ = format_cells(row)
        shown.append(f"{row.target} {waiting}+{running} KV {kv_usage} hits {hits}")
    return f"{numbers.request_rate:.1f} requests/s; waiting+running: " + ", ".join(shown)


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _format_percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
