"""Rows of recordings and of models."""

from __future__ import annotations

import pytest

from epp_batch.report import DevicePrices, WordErrors, build_report
from tests.unit.epp_batch.report.builders import (
    attempt_events,
    build_event,
    build_result,
    build_run,
    build_task,
    run_with_eviction,
)


def test_speed_by_makespan_and_real_time_factor_by_device_time():
    report = build_report(*run_with_eviction(), {}, [])
    assert report.speed == pytest.approx(1800 / 400)
    medium, large = report.models
    assert medium.service_rtf == pytest.approx(109 / 600)
    assert large.service_rtf == pytest.approx(250 / 1200)
    assert medium.transcribe_rtf is None


def test_recordings_of_earlier_runs_are_reused():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    tasks = {task.stem: task for task in run.list_tasks()}
    report = build_report(
        run, attempt_events("b", 0, 1, 2, 10, "n"), {stem: build_result(task) for stem, task in tasks.items()}, []
    )
    assert (report.counts["done"], report.reused) == (2, 1)
    assert report.audio_seconds == 600
    assert [row.reused for row in report.rows] == [True, False]


def test_device_time_of_a_unit_is_divided_by_audio_length():
    run = build_run(("a", build_task("x", seconds=100.0), build_task("y", seconds=300.0)))
    events = [*attempt_events("a", 0, 0, 0, 100, "n/gpu-0", stem="x"), build_event(400, "a", "finished", stem="y")]
    report = build_report(run, events, {}, [], DevicePrices(gpu_hour=9.0))
    assert [row.completion for row in report.rows] == [100, 400]
    assert [row.service for row in report.rows] == [100, 300]
    assert [row.cost for row in report.rows] == pytest.approx([0.25, 0.75])


def test_a_recording_with_a_transcript_is_done_although_its_unit_failed():
    run = build_run(("a", build_task("x"), build_task("y")))
    events = attempt_events("a", 0, 0, 0, 100, "n/gpu-0", "failed")
    report = build_report(run, events, {"x": build_result(run.list_tasks()[0])}, [])
    assert [row.status for row in report.rows] == ["done", "failed"]


def test_word_errors_are_summed_before_the_division():
    words = {
        "first": WordErrors(reference=10, substitutions=5),
        "second": WordErrors(reference=90, insertions=1, deletions=3),
    }
    report = build_report(*run_with_eviction(), {}, [], word_errors=words, normaliser="n")
    assert report.wer == pytest.approx(9 / 100)
    assert [row.wer for row in report.models] == pytest.approx([0.5, 4 / 90])
