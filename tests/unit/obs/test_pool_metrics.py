"""Gauges of the pool and the rows of /debug/state."""

from __future__ import annotations

from epp.api import RUNNING_REQUESTS, Endpoint
from epp.clock import ManualClock
from epp.datastore.endpoint_store import EndpointStore
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolCollector, sum_rows, track_endpoints


def collect_gauges(pool: PoolCollector) -> dict[str, dict[str, float]]:
    return {
        metric.name: {",".join(sample.labels.values()): sample.value for sample in metric.samples}
        for metric in pool.collect()
    }


def test_averages_leave_out_endpoints_without_values(pool: PoolCollector) -> None:
    gauges = collect_gauges(pool)
    assert gauges["llm_d_epp_average_queue_size"] == {"pool-a": 4.0}
    assert gauges["llm_d_epp_std_dev_queue_size"] == {"pool-a": 2.0}
    assert gauges["llm_d_epp_average_kv_cache_utilization"] == {"pool-a": 0.75}
    assert gauges["inference_pool_average_running_requests"] == {"pool-a": 6.0}
    assert gauges["llm_d_epp_ready_endpoints"] == {"pool-a": 2.0}
    assert gauges["inference_pool_ready_pods"] == {"pool-a": 2.0}


def test_queue_sizes_are_exposed_per_endpoint_while_known(pool: PoolCollector) -> None:
    gauges = collect_gauges(pool)
    assert gauges["llm_d_epp_per_endpoint_queue_size"] == {"pool-a,busy-rank-0": 6.0, "pool-a,calm-rank-0": 2.0}
    assert gauges["inference_pool_per_pod_queue_size"] == gauges["llm_d_epp_per_endpoint_queue_size"]


def test_inflight_gauges_do_not_depend_on_scrapes(pool: PoolCollector) -> None:
    gauges = collect_gauges(pool)
    labels = "default,inflight-load-producer,,"
    assert gauges["llm_d_epp_inflight_requests"] == {
        f"busy-rank-0,{labels}": 2.0,
        f"calm-rank-0,{labels}": 1.0,
        f"dark-rank-0,{labels}": 0.0,
    }
    assert gauges["llm_d_epp_inflight_tokens"][f"busy-rank-0,{labels}"] == 4096.0


def test_stale_values_are_not_exposed(pool: PoolCollector, clock: ManualClock) -> None:
    clock.advance(1.2)
    gauges = collect_gauges(pool)
    assert gauges["llm_d_epp_ready_endpoints"] == {"pool-a": 1.0}
    assert gauges["llm_d_epp_per_endpoint_queue_size"] == {"pool-a,busy-rank-0": 6.0}


def test_an_empty_pool_has_no_averages_and_no_ready_endpoints(pool: PoolCollector, store: EndpointStore) -> None:
    store.replace_all([])
    gauges = collect_gauges(pool)
    assert gauges["llm_d_epp_average_queue_size"] == {}
    assert gauges["llm_d_epp_ready_endpoints"] == {"pool-a": 0.0}
    assert pool.list_endpoint_rows() == []


def test_unknown_values_are_none_in_rows(pool: PoolCollector) -> None:
    busy, _, dark = pool.list_endpoint_rows()
    assert busy == {
        "name": "default/busy-rank-0",
        "address": "10.0.0.0:8000",
        "waiting": 6,
        "running": 8,
        "kv_usage": 0.75,
        "inflight_requests": 2,
        "inflight_tokens": 4096,
        "decoding": 1,
        "age_seconds": 0.5,
        "labels": {"role": "both"},
    }
    assert dark["waiting"] is None
    assert dark["age_seconds"] is None
    assert dark["inflight_requests"] == 0


def test_unknown_values_count_as_zero_in_sums(pool: PoolCollector) -> None:
    sums = sum_rows(pool.list_endpoint_rows())
    assert sums["endpoints"] == 3
    assert sums["fresh"] == 2
    assert sums["waiting"] == 8
    assert sums["inflight_tokens"] == 4106


async def test_scrapes_are_counted_and_series_removed_with_the_last_port_of_a_pod(clock: ManualClock) -> None:
    store, metrics = EndpointStore(clock), Metrics()
    track_endpoints(metrics, store, clock)
    for rank in (0, 1):
        store.upsert(Endpoint(f"default/a-rank-{rank}", "10.0.0.1", 8000 + rank, pod="a", rank=rank))
    store.create_writer([RUNNING_REQUESTS]).record(
        0, store.generation_of(0), clock.now() - 0.004, {RUNNING_REQUESTS: 1}, None
    )
    metrics.record_scheduling_attempt(0.001, "m", "a", "default", 8000)
    store.remove("default/a-rank-0")
    assert b'endpoint_name="a"' in (await metrics.render_exposition())[0]
    store.remove("default/a-rank-1")
    page, _ = await metrics.render_exposition()
    assert b'endpoint_name="a"' not in page
    assert b'epp_scrapes_total{outcome="success"} 1.0' in page
    assert b'epp_scrape_duration_seconds_bucket{le="0.005"} 1' in page
