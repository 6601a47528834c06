"""Figures of two runs side by side."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.report import DevicePrices, build_report, compare_reports
from epp_batch.report.compare import FigureChange
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task, run_with_eviction


@pytest.mark.parametrize(
    ("before", "after", "relative"), [(4.0, 3.0, -0.25), (4.0, 4.0, 0.0), (0.0, 3.0, None), (None, 3.0, None)]
)
def test_the_relative_change_needs_a_figure_to_start_from(
    before: float | None, after: float, relative: float | None
) -> None:
    assert FigureChange("cost", before, after, -1, "money").relative_change == relative


def build_local_report(seconds: float):
    run = build_run(("a", build_task("x")), cluster=None)
    return build_report(run, attempt_events("a", 0, 0, 0, seconds, "local/worker-0"), {}, [])


def test_figures_that_only_one_run_has_are_left_out():
    run, events = run_with_eviction()
    priced, unpriced = build_report(run, events, {}, [], DevicePrices(gpu_hour=4.0)), build_report(run, events, {}, [])
    assert "cost" in {change.name for change in compare_reports(priced, priced)}
    assert "cost" not in {change.name for change in compare_reports(priced, unpriced)}
    names = {change.name for change in compare_reports(build_local_report(10), priced)}
    assert not {name for name in names if name.startswith(("GPU time", "worker time"))}


def test_figures_that_are_zero_in_both_are_left_out_and_those_of_one_are_not():
    run, events = run_with_eviction()
    evicted = build_report(run, events, {}, [])
    calm = msgspec.structs.replace(evicted, evictions=0)
    assert "evictions" not in {change.name for change in compare_reports(calm, calm)}
    (change,) = (change for change in compare_reports(calm, evicted) if change.name == "evictions")
    assert (change.before, change.after, change.better_direction, change.relative_change) == (1, 0, -1, -1.0)


def test_every_kind_of_device_is_compared_with_its_own():
    changes = {change.name: change for change in compare_reports(build_local_report(3600), build_local_report(7200))}
    held = changes["worker time, held"]
    assert (held.before, held.after) == (2.0, 1.0)
    assert changes["worker time, of makespan"].after == 1.0
