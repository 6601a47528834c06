"""Attempts and summaries of a run on one time axis."""

from __future__ import annotations

import pytest

from epp_batch.report import build_report
from tests.unit.epp_batch.report.builders import (
    attempt_events,
    build_event,
    build_result,
    build_run,
    build_task,
    run_with_eviction,
)


def test_times_are_seconds_from_the_first_creation():
    report = build_report(*run_with_eviction(), {}, [])
    assert (report.kind, report.began, report.makespan) == ("virtual", 1000.0, 400.0)
    assert [(span.allocated, span.running, span.ended) for span in report.spans] == [
        (1.0, 10.0, 110.0), (110.0, 120.0, 160.0), (200.0, 205.0, 400.0)
    ]  # fmt: skip
    assert report.latencies["wait"].max == 110.0
    assert report.latencies["start"].mean == pytest.approx((10 + 120) / 2)
    assert report.latencies["completion"].mean == pytest.approx((110 + 400) / 2)
    assert report.latencies["service"].max == 50 + 200


@pytest.mark.parametrize(
    ("devices", "place"),
    [
        ("GPU-4f1c2d3e-0000-1111-2222-333344445555", "n/gpu-4f1c2d3e"), ("3", "n/gpu-3"), ("0,1", "n"), ("void", "n"),
        ("MIG-4f1c2d3e-0000-1111-2222-333344445555", "n"),
    ],
)  # fmt: skip
def test_the_gpu_of_the_last_attempt_comes_from_the_result(devices, place):
    run = build_run(("a", build_task("x")))
    report = build_report(
        run, attempt_events("a", 0, 1, 2, 9, "n"), {"x": build_result(run.list_tasks()[0], devices=devices)}, []
    )
    assert report.spans[0].place == place


def test_idle_time_between_two_invocations_is_cut_out():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    events = [
        *attempt_events("a", 0, 1, 2, 100, "n"), *attempt_events("b", 0, 1, 2, 50, "n", "failed"),
        *attempt_events("b", 90_000, 90_001, 90_002, 90_060, "n"),
    ]  # fmt: skip
    report = build_report(run, events, {}, [])
    assert report.makespan == 160
    assert [(cut.at, cut.seconds) for cut in report.cuts] == [(100, 89_900)]
    assert report.rows[1].completion == 60
    assert report.rows[1].finished == 160


def test_results_replace_a_lost_journal():
    run = build_run(("a", build_task("x")), cluster=None)
    kept = build_result(run.list_tasks()[0], started=1.7e9, finished=1.7e9 + 30, host="box")
    report = build_report(run, [], {"x": kept}, [])
    assert report.makespan == 30
    assert report.spans[0].place == "box"


def test_an_unrecorded_end_is_inferred_from_results():
    """The controller was killed before it recorded the end."""
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    events = [*attempt_events("a", 0, 1, 2, 9, "n/gpu-0")[:3], *attempt_events("b", 0, 1, 2, 50, "n/gpu-1")]
    report = build_report(run, events, {"x": build_result(run.list_tasks()[0], finished=30.0)}, [])
    assert report.complete
    assert [(span.ended, span.ending) for span in report.spans] == [(30, "finished"), (50, "finished")]


def test_latencies_of_summaries_and_handoff():
    run, events = run_with_eviction()
    summaries = [
        build_event(1111, "a", "summarizing", stem="first"),
        build_event(1112, "a", "summarizing", stem="first", attempt=2),
        build_event(1114, "a", "first-token", stem="first"), build_event(1120, "a", "summarized", stem="first"),
        build_event(1401, "b", "summarizing", stem="second"), build_event(1410, "b", "unsummarized", stem="second"),
    ]  # fmt: skip
    report = build_report(run, [*events, *summaries], {}, [])
    assert (report.makespan, report.length) == (400, 410)
    assert report.handoff_times() == (120, 400)
    assert (report.latencies["ttft"].mean, report.latencies["summary"].mean) == (2, 9)
    assert report.latencies["handoff"].mean == 10
    assert [span.ending for span in report.summaries] == ["summarized", "unsummarized"]
    assert report.rows[0].ttft == 2


def test_events_of_other_runs_in_the_same_folder_are_left_out():
    run, events = run_with_eviction()
    report = build_report(run, [*attempt_events("old", 0, 1, 2, 10, "n"), *events], {}, [])
    assert report.began == 1000.0
