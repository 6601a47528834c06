"""Lanes of devices, and ticks of the time axis."""

from __future__ import annotations

from itertools import pairwise

import pytest

from epp_batch.report import build_report
from epp_batch.report.render.layout import format_tick, group_by_device, tick_times
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task, run_with_many_attempts


@pytest.mark.parametrize("slots", [False, True])
def test_bars_of_a_lane_do_not_overlap(slots):
    report = run_with_many_attempts(200, 4, slots)
    for group in group_by_device(report.spans):
        for lane in range(group.lane_count):
            inside = [bar.span for bar in group.bars if bar.first_lane <= lane <= bar.last_lane]
            for before, after in pairwise(inside):
                assert before.ended <= after.allocated


def test_overlapping_spans_of_a_device_get_lanes_of_their_own():
    run = build_run(*((name, build_task(name)) for name in "abc"))
    events = [event for name in "abc" for event in attempt_events(name, 0, 1, 2, 100, "node-1")]
    (group,) = group_by_device(build_report(run, events, {}, []).spans)
    assert (group.device, group.lane_count, group.has_slots) == ("node-1", 3, False)


def test_overlaps_within_the_tolerance_share_a_lane():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    spans = build_report(
        run, [*attempt_events("a", 0, 1, 2, 100.6, "n"), *attempt_events("b", 0, 100, 102, 200, "n")], {}, []
    ).spans
    assert [group.lane_count for group in group_by_device(spans)] == [2]
    assert [group.lane_count for group in group_by_device(spans, 1.0)] == [1]


def test_a_span_of_the_whole_gpu_covers_all_slots():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    spans = build_report(
        run, [*attempt_events("a", 0, 1, 2, 10, "n/gpu-0/2-3"), *attempt_events("b", 0, 11, 12, 20, "n/gpu-0")], {}, []
    ).spans
    (group,) = group_by_device(spans)
    assert [(bar.first_lane, bar.last_lane) for bar in group.bars] == [(2, 3), (0, 7)]


@pytest.mark.parametrize("length", [0.35, 1, 4.2, 59, 61, 3_434, 49_000, 90_000, 700_000, 40_000_000])
def test_ticks_are_few_distinct_and_within_the_axis(length):
    ticks = tick_times(length, 13)
    assert ticks[0] == 0
    assert 3 <= len(ticks) <= 13
    assert ticks[-1] <= length
    labels = [format_tick(tick, length) for tick in ticks]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("seconds", "length", "name"),
    [
        (0, 10, "0"), (2.5, 10, "2.5 s"), (30, 300, "0:30 min"), (600, 3_000, "10 min"), (5_400, 9_000, "1:30 h"),
        (7_200, 90_000, "2 h"), (108_000, 700_000, "1 d 6 h"), (172_800, 700_000, "2 d"),
    ],
)  # fmt: skip
def test_tick_labels(seconds, length, name):
    assert format_tick(seconds, length) == name
