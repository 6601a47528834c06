"""A whole report: counts, concurrency, failures, runs that have not finished."""

from __future__ import annotations

import pytest

from epp_batch.output_folder import TaskFailure
from epp_batch.report import build_report
from tests.unit.epp_batch.report.builders import (
    attempt_events,
    build_event,
    build_result,
    build_run,
    build_task,
    run_with_eviction,
)


def build_failure(task, run, stage="decode", **other):
    key = task.key(run.options)
    known = {"key": key, "source": task.recording.source, "kind": "corrupt", "message": "it breaks off", "remedy": "r"}
    return TaskFailure(**(known | {"stage": stage, "permanent": True} | other))


def test_evictions_and_preemptions_are_counted():
    report = build_report(*run_with_eviction(), {}, [])
    assert (report.evictions, report.preemptions, report.retries) == (1, 1, 0)
    assert [row.evictions for row in report.rows] == [0, 1]


def test_concurrency_of_running_and_waiting_units():
    report = build_report(*run_with_eviction(), {}, [])
    assert report.concurrency.peak == 1
    assert report.concurrency.mean == pytest.approx((100 + 40 + 195) / 400)
    assert report.concurrency.waiting == ((0.0, 2), (10.0, 1), (120.0, 0), (160.0, 1), (205.0, 0))


def test_transcription_seconds_come_from_results():
    run, events = run_with_eviction()
    first = run.units[0].tasks[0]
    report = build_report(run, events, {"first": build_result(first, audio_seconds=500.0)}, [])
    assert report.models[0].transcribe_rtf == pytest.approx(60 / 500)
    assert report.uses[0].used == pytest.approx(60 / 3600)


def test_a_run_that_has_not_finished():
    run = build_run(("a", build_task("x")), ("b", build_task("y")), ("c", build_task("z")))
    events = [
        *attempt_events("a", 0, 1, 2, 10, "n"),
        *attempt_events("b", 0, 11, 12, 99, "n")[:3],
        build_event(20, "c", "created"),
    ]
    report = build_report(run, events, {}, [])
    assert not report.complete
    assert (report.counts["done"], report.counts["running"], report.counts["waiting"]) == (1, 1, 1)
    assert report.spans[-1].ended == 20


def test_every_failed_recording_and_summary_has_a_failure():
    run = build_run(("a", build_task("x")), ("b", build_task("y")), ("c", build_task("z")))
    events = [
        *attempt_events("a", 0, 1, 2, 10, "n", "failed"),
        *attempt_events("b", 0, 1, 2, 10, "n", "failed", detail="pod: OOMKilled"),
        *attempt_events("c", 0, 1, 2, 10, "n"),
    ]
    first, _, third = run.list_tasks()
    unread = build_failure(first, run, stage="probe", key="", source="no.mp3", message="the file is empty")
    given = [
        unread,
        build_failure(first, run),
        build_failure(third, run, stage="summary", message="429", remedy="wait"),
    ]
    report = build_report(run, events, {}, given)
    assert [str(trouble) for trouble in report.troubles] == [
        "no.mp3: probe: the file is empty; r",
        "x.mp3: decode: it breaks off; r",
        "z.mp3: summary: 429; wait",
        "y.mp3: pod: OOMKilled; the worker's log has more: epp-batch logs",
    ]
    assert (report.counts["failed"], report.recording_count) == (3, 4)


def test_a_run_that_has_not_begun():
    report = build_report(build_run(("a", build_task("x"))), [], {}, [])
    assert (report.makespan, report.speed, report.counts["waiting"]) == (0.0, None, 1)
    assert report.spans == report.uses == ()
