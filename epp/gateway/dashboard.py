"""What `epp up` shows while it runs: a table that renews itself, or plain lines."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from epp.clock import Clock
from epp.gateway.dashboard_data import Numbers, Reader, Row
from epp.gateway.gateway import Gateway

LIVE_SECONDS, PLAIN_SECONDS = 1.0, 10.0
_HEADS = ("endpoint", "waiting", "running", "KV cache", "in flight", "hits", "req/s", "errors")


class View:
    """Lines go to `console`; with `live` a table stays below them."""

    def __init__(self, clock: Clock, *, live: bool, console: Console | None = None) -> None:
        self._clock = clock
        self._live = live
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One message."""
        self._console.print(text, markup=False)

    def welcome(self, gateway: Gateway, model: str) -> None:
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
        self.say("\n".join(lines))

    async def show(self, gateway: Gateway) -> None:
        """Until cancelled."""
        reader = Reader(gateway, self._clock)
        try:
            if self._live:
                await self._show_live(reader)
            else:
                await self._show_lines(reader)
        finally:
            await reader.close()

    async def _show_live(self, reader: Reader) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(picture(await reader.read()), refresh=True)
                await asyncio.sleep(LIVE_SECONDS)

    async def _show_lines(self, reader: Reader) -> None:
        said = ""
        while True:
            line = summary(await reader.read())
            if line != said:
                self.say(line)
            said = line
            await asyncio.sleep(PLAIN_SECONDS)


def picture(numbers: Numbers) -> Group:
    """The live view of one look."""
    table = Table(*_HEADS, box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in numbers.rows:
        table.add_row(*cells(row))
    parts = [f"{numbers.rate:.1f} requests/s"]
    if not numbers.picker_answers:
        parts.append("no picker")
    if numbers.picker_cpu is not None:
        parts.append(f"picker {numbers.picker_cpu:.0%} of a core")
    if numbers.picker_rss:
        parts.append(f"{numbers.picker_rss / 1e6:.0f} MB")
    silent = [row.target for row in numbers.rows if row.waiting is None and row.running is None]
    if silent and numbers.picker_answers:
        parts.append(f"no metrics from {', '.join(silent[:3])}{', …' if len(silent) > 3 else ''}")
    last = [Text(f"  {model or '(no model)'} -> {where}", style="dim") for model, where in numbers.decisions]
    return Group(table, Text("   ".join(parts)), *([Text("last decisions", style="dim")] if last else []), *last)


def cells(row: Row) -> list[str]:
    """One row as it is shown; unknown is a dash."""
    return [
        row.target,
        _number(row.waiting),
        _number(row.running),
        _share(row.kv_usage),
        _number(row.inflight),
        _share(row.hit_share),
        "-" if row.rate is None else f"{row.rate:.1f}",
        str(row.errors),
    ]


def summary(numbers: Numbers) -> str:
    """One line for the whole gateway."""
    shown = []
    for row in numbers.rows:
        _, waiting, running, kv_usage, _, hits, *_ = cells(row)
        shown.append(f"{row.target} {waiting}+{running} KV {kv_usage} hits {hits}")
    return f"{numbers.rate:.1f} requests/s; waiting+running: " + ", ".join(shown)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
