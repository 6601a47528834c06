"""The live table, the summary line and the welcome message of `epp up`."""

from __future__ import annotations

import io

from rich.console import Console

from epp.clock import ManualClock
from epp.gateway.dashboard import Dashboard, format_summary, render_table
from epp.gateway.dashboard_data import DashboardData, EndpointRow
from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings

DATA = DashboardData(
    endpoints=[
        EndpointRow("10.0.0.1:1", waiting=2, running=1, kv_usage=0.5, inflight=3, errors=1),
        EndpointRow("10.0.0.2:1"),
    ],
    decisions=[("m", "10.0.0.1:1"), ("n", "no endpoint")],
    picker_available=True,
)


def test_unknown_values_are_dashes():
    data = DashboardData(endpoints=[EndpointRow("10.0.0.1:1")])
    assert format_summary(data) == "0.0 requests/s; waiting+running: 10.0.0.1:1 -+- KV - hits -"


def test_the_live_table_shows_known_values():
    console = Console(file=io.StringIO(), width=120)
    console.print(render_table(DATA))
    text = console.file.getvalue()
    assert "10.0.0.1:1" in text
    assert "50%" in text
    assert "n -> no endpoint" in text
    assert "no metrics from 10.0.0.2:1\n" in text


def test_the_welcome_message_has_a_curl_command():
    console = Console(file=io.StringIO(), width=200)
    gateway = Gateway(GatewaySettings(sim_servers=1))
    gateway.url, gateway.endpoints = "http://127.0.0.1:8081", ["127.0.0.1:8100"]
    Dashboard(ManualClock(), live=False, console=console).print_welcome(gateway, "m")
    text = console.file.getvalue()
    assert "curl -N http://127.0.0.1:8081/v1/completions" in text
    assert '"model": "m"' in text
    assert DashboardData().endpoints == []
