from __future__ import annotations

import io

from rich.console import Console

from epp.clock import ManualClock
from epp.gateway.dashboard import View, picture, summary
from epp.gateway.dashboard_data import Numbers, Reader, Row, hit_share, host_counts
from epp.gateway.gateway import Gateway
from epp.gateway.programs import UpSettings

STATE = {
    "picker": {"cpu_seconds": 1.0, "rss_bytes": 50_000_000},
    "endpoints": [
        {"name": "a", "address": "10.0.0.1:1", "waiting": 2, "running": 1, "kv_usage": 0.5, "inflight_requests": 3},
        {"name": "b", "target": "10.0.0.2:1", "waiting": None},
    ],
}
DECISIONS = {"decisions": [{"model": "m", "destination": "10.0.0.1:1"}, {"model": "n", "refusal": "no endpoint"}]}
CLUSTERS = """pool::default_priority::max_connections::1000000
pool::10.0.0.1:1::cx_active::1
pool::10.0.0.1:1::rq_error::1
pool::10.0.0.1:1::rq_total::{}
picker::127.0.0.1:9002::rq_total::99
"""


def reader(clock):
    gateway = Gateway(UpSettings())
    gateway.endpoints = ["10.0.0.1:1"]
    return Reader(gateway, clock)


def test_rates_are_over_the_time_between_two_looks():
    clock = ManualClock()
    source = reader(clock)
    first = source._numbers(STATE, DECISIONS, host_counts(CLUSTERS.format(100)), {"10.0.0.1:1": 0.25})
    assert first.rows[0] == Row("10.0.0.1:1", 2, 1, 0.5, 3, 0.25, None, 1)
    assert first.picker_cpu is None
    clock.advance(2.0)
    later = {**STATE, "picker": {"cpu_seconds": 1.5}}
    second = source._numbers(later, {}, host_counts(CLUSTERS.format(110)), {})
    assert second.rows[0].rate == 5.0
    assert second.rate == 5.0
    assert second.picker_cpu == 0.25


def test_a_picker_that_does_not_answer_leaves_dashes():
    numbers = reader(ManualClock())._numbers({}, {}, {}, {})
    assert numbers.picker_answers is False
    assert summary(numbers) == "0.0 requests/s; waiting+running: 10.0.0.1:1 -+- KV - hits -"


def test_the_live_view_shows_what_is_known():
    shown = reader(ManualClock())._numbers(STATE, DECISIONS, host_counts(CLUSTERS.format(7)), {})
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(shown))
    text = console.file.getvalue()
    assert "10.0.0.1:1" in text
    assert "50%" in text
    assert "n -> no endpoint" in text
    assert "no metrics from 10.0.0.2:1\n" in text


def test_hits_are_summed_over_engines_old_and_new_names():
    page = 'vllm:prefix_cache_queries_total{engine="0"} 100.0\nvllm:prefix_cache_hits_total{engine="0"} 25.0\n'
    page += 'vllm:prefix_cache_queries_total{engine="1"} 100.0\nvllm:prefix_cache_hits_total{engine="1"} 75.0\n'
    assert hit_share(page) == 0.5
    assert hit_share("vllm:gpu_prefix_cache_queries 0.0\n") is None
    assert hit_share("") is None


def test_the_welcome_has_a_command_to_paste():
    console = Console(file=io.StringIO(), width=200)
    gateway = Gateway(UpSettings(sim=1))
    gateway.url, gateway.endpoints = "http://127.0.0.1:8081", ["127.0.0.1:8100"]
    View(ManualClock(), live=False, console=console).welcome(gateway, "m")
    text = console.file.getvalue()
    assert "curl -N http://127.0.0.1:8081/v1/completions" in text
    assert '"model": "m"' in text
    assert Numbers().rows == []
