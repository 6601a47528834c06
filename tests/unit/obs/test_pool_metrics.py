"""Gauges of the pool and the rows of /debug/state."""

from __future__ import annotations

from epp.api import WAITING_REQUESTS, Endpoint
from epp.clock import ManualClock
from epp.datastore.endpoint_store import EndpointStore
from epp.obs.metrics import Metrics
from epp.obs.pool_metrics import PoolCollector, sum_rows, track_endpoints


def gauges(pool: PoolCollector) -> dict[str, dict[str, float]]:
    return {
        metric.name: {",".join(sample.labels.values()): sample.value for sample in metric.samples}
        for metric in pool.collect()
    }


def test_means_leave_out_who_is_silent(pool: PoolCollector) -> None:
    shown = gauges(pool)
    assert shown["llm_d_epp_average_queue_size"] == {"pool-a": 4.0}
    assert shown["llm_d_epp_std_dev_queue_size"] == {"pool-a": 2.0}
    assert shown["llm_d_epp_average_kv_cache_utilization"] == {"pool-a": 0.75}
    assert shown["inference_pool_average_running_requests"] == {"pool-a": 6.0}
    assert shown["llm_d_epp_ready_endpoints"] == {"pool-a": 2.0}
    assert shown["inference_pool_ready_pods"] == {"pool-a": 2.0}


def test_queues_are_shown_per_endpoint_while_known(pool: PoolCollector) -> None:
    shown = gauges(pool)
    assert shown["llm_d_epp_per_endpoint_queue_size"] == {"pool-a,busy-rank-0": 6.0, "pool-a,calm-rank-0": 2.0}
    assert shown["inference_pool_per_pod_queue_size"] == shown["llm_d_epp_per_endpoint_queue_size"]


def test_the_ledger_shows_even_where_scrapes_do_not(pool: PoolCollector) -> None:
    shown = gauges(pool)
    labels = "default,inflight-load-producer,,"
    assert shown["llm_d_epp_inflight_requests"] == {
        f"busy-rank-0,{labels}": 2.0,
        f"calm-rank-0,{labels}": 1.0,
        f"dark-rank-0,{labels}": 0.0,
    }
    assert shown["llm_d_epp_inflight_tokens"][f"busy-rank-0,{labels}"] == 4096.0


def test_stale_numbers_leave_the_gauges(pool: PoolCollector, clock: ManualClock) -> None:
    clock.advance(1.2)
    shown = gauges(pool)
    assert shown["llm_d_epp_ready_endpoints"] == {"pool-a": 1.0}
    assert shown["llm_d_epp_per_endpoint_queue_size"] == {"pool-a,busy-rank-0": 6.0}


def test_an_empty_pool_has_no_means_and_nobody_ready(pool: PoolCollector, table: EndpointStore) -> None:
    table.replace_all([])
    shown = gauges(pool)
    assert shown["llm_d_epp_average_queue_size"] == {}
    assert shown["llm_d_epp_ready_endpoints"] == {"pool-a": 0.0}
    assert pool.list_endpoint_rows() == []


def test_rows_say_none_for_what_is_unknown(pool: PoolCollector) -> None:
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


def test_totals_count_the_unknown_as_nothing(pool: PoolCollector) -> None:
    summed = sum_rows(pool.list_endpoint_rows())
    assert summed["endpoints"] == 3
    assert summed["fresh"] == 2
    assert summed["waiting"] == 8
    assert summed["inflight_tokens"] == 4106


async def test_scrapes_are_counted_and_series_go_with_the_last_port_of_a_pod(clock: ManualClock) -> None:
    table, metrics = EndpointStore(clock), Metrics()
    track_endpoints(metrics, table, clock)
    for rank in (0, 1):
        table.upsert(Endpoint(f"default/a-rank-{rank}", "10.0.0.1", 8000 + rank, pod="a", rank=rank))
    table.record_scrape(0, table.generation_of(0), clock.now() - 0.004, {WAITING_REQUESTS: 1}, None)
    metrics.record_scheduling_attempt(0.001, "m", "a", "default", 8000)
    table.remove("default/a-rank-0")
    assert b'endpoint_name="a"' in (await metrics.render_exposition())[0]
    table.remove("default/a-rank-1")
    page, _ = await metrics.render_exposition()
    assert b'endpoint_name="a"' not in page
    assert b'epp_scrapes_total{outcome="success"} 1.0' in page
    assert b'epp_scrape_duration_seconds_bucket{le="0.005"} 1' in page
