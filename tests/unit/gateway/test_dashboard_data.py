"""The numbers of the dashboard, from the debug pages of the picker and Envoy, and from vLLM's metrics."""

from __future__ import annotations

from epp.clock import ManualClock
from epp.gateway.dashboard_data import DashboardReader, EndpointRow, parse_host_counts, parse_prefix_hit_rate
from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings

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


def create_reader(clock):
    gateway = Gateway(GatewaySettings())
    gateway.endpoints = ["10.0.0.1:1"]
    return DashboardReader(gateway, clock)


def test_rates_are_averages_since_the_previous_poll():
    clock = ManualClock()
    reader = create_reader(clock)
    first = reader._build_data(STATE, DECISIONS, parse_host_counts(CLUSTERS.format(100)), {"10.0.0.1:1": 0.25})
    assert first.endpoints[0] == EndpointRow("10.0.0.1:1", 2, 1, 0.5, 3, 0.25, None, 1)
    assert first.picker_cores is None
    clock.advance(2.0)
    later = {**STATE, "picker": {"cpu_seconds": 1.5}}
    second = reader._build_data(later, {}, parse_host_counts(CLUSTERS.format(110)), {})
    assert second.endpoints[0].request_rate == 5.0
    assert second.request_rate == 5.0
    assert second.picker_cores == 0.25


def test_values_come_from_the_picker_and_envoy():
    data = create_reader(ManualClock())._build_data(STATE, DECISIONS, parse_host_counts(CLUSTERS.format(7)), {})
    assert data.endpoints == [
        EndpointRow("10.0.0.1:1", waiting=2, running=1, kv_usage=0.5, inflight=3, errors=1),
        EndpointRow("10.0.0.2:1"),
    ]
    assert data.decisions == [("m", "10.0.0.1:1"), ("n", "no endpoint")]
    assert data.picker_rss_bytes == 50_000_000
    assert data.picker_available is True


def test_without_the_picker_endpoints_have_unknown_values():
    data = create_reader(ManualClock())._build_data({}, {}, {}, {})
    assert data.picker_available is False
    assert data.endpoints == [EndpointRow("10.0.0.1:1")]


def test_prefix_hit_rate_is_summed_over_engines_in_old_and_new_metric_names():
    page = 'vllm:prefix_cache_queries_total{engine="0"} 100.0\nvllm:prefix_cache_hits_total{engine="0"} 25.0\n'
    page += 'vllm:prefix_cache_queries_total{engine="1"} 100.0\nvllm:prefix_cache_hits_total{engine="1"} 75.0\n'
    assert parse_prefix_hit_rate(page) == 0.5
    assert parse_prefix_hit_rate("vllm:gpu_prefix_cache_queries 0.0\n") is None
    assert parse_prefix_hit_rate("") is None
