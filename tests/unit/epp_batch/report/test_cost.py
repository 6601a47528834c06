"""Device hours of a run, and their cost."""

from __future__ import annotations

import pytest

from epp_batch.report import DevicePrices, build_report
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task, run_with_eviction


def test_a_slice_costs_its_share_of_the_gpu():
    run = build_run(("a", build_task("x")), ("b", build_task("y", "large")))
    events = [*attempt_events("a", 0, 0, 0, 3600, "n/gpu-0/0-0"), *attempt_events("b", 0, 0, 0, 3600, "n/gpu-0/4-7")]
    report = build_report(run, events, {}, [], DevicePrices(gpu_hour=8.0))
    assert [row.device_hours for row in report.rows] == [0.125, 0.5]
    assert [row.cost for row in report.rows] == [1.0, 4.0]
    (usage,) = report.uses
    assert (usage.count, usage.peak, usage.allocated, usage.share, usage.cost) == (1, 0.625, 0.625, 0.625, 5.0)


def test_a_gpu_released_and_allocated_in_the_same_instant_is_held_once():
    report = build_report(*run_with_eviction(), {}, [])
    assert report.uses[0].peak == 1


def test_shares_by_model_apply_where_places_name_only_nodes():
    run = build_run(("a", build_task("x")), ("b", build_task("y", "tiny")))
    events = [*attempt_events("a", 0, 0, 0, 3600, "node-1"), *attempt_events("b", 0, 0, 0, 3600, "node-1")]
    report = build_report(
        run, events, {}, [], DevicePrices(gpu_hour=8.0, worker_hour=1.0), shares={"medium": 0.25, "tiny": 0.0}
    )
    assert [(usage.device, usage.allocated, usage.count) for usage in report.uses] == [
        ("gpu", 0.25, 0),
        ("worker", 1.0, 1),
    ]
    assert report.cost == pytest.approx(2.0 + 1.0)


def test_prices_by_model():
    run, events = run_with_eviction()
    report = build_report(run, events, {}, [], DevicePrices(gpu_hour=1.0, gpu_hour_by_model={"large": 10.0}))
    assert report.cost == pytest.approx((109 + 2500) / 3600)


def test_without_a_price_for_every_span_there_is_no_cost():
    assert build_report(*run_with_eviction(), {}, []).cost is None
    assert build_report(*run_with_eviction(), {}, [], DevicePrices(gpu_hour_by_model={"large": 1.0})).cost is None


def test_a_local_run_uses_workers():
    run = build_run(("a", build_task("x")), cluster=None)
    report = build_report(run, attempt_events("a", 1.7e9, 1.7e9, 1.7e9, 1.7e9 + 36, "local/worker-0"), {}, [])
    assert report.kind == "local"
    assert [(usage.device, usage.count) for usage in report.uses] == [("worker", 1)]
