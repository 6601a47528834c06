"""Figures of a report, by hand-made events and results."""

from __future__ import annotations

import pytest

from epp_batch.output_folder import TaskFailure
from epp_batch.report import DevicePrices, WordErrors, build_report
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


def test_evictions_and_preemptions_are_counted():
    report = build_report(*run_with_eviction(), {}, [])
    assert (report.evictions, report.preemptions, report.retries) == (1, 1, 0)
    assert [row.evictions for row in report.rows] == [0, 1]


def test_concurrency_of_running_and_waiting_units():
    report = build_report(*run_with_eviction(), {}, [])
    assert report.concurrency.peak == 1
    assert report.concurrency.mean == pytest.approx((100 + 40 + 195) / 400)
    assert report.concurrency.waiting == ((0.0, 2), (10.0, 1), (120.0, 0), (160.0, 1), (205.0, 0))


def test_speed_by_makespan_and_real_time_factor_by_device_time():
    report = build_report(*run_with_eviction(), {}, [])
    assert report.speed == pytest.approx(1800 / 400)
    medium, large = report.models
    assert medium.service_rtf == pytest.approx(109 / 600)
    assert large.service_rtf == pytest.approx(250 / 1200)
    assert medium.transcribe_rtf is None


def test_transcription_seconds_come_from_results():
    run, events = run_with_eviction()
    first = run.units[0].tasks[0]
    report = build_report(run, events, {"first": build_result(first, audio_seconds=500.0)}, [])
    assert report.models[0].transcribe_rtf == pytest.approx(60 / 500)
    assert report.uses[0].used == pytest.approx(60 / 3600)


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


def test_a_local_run_uses_workers():
    run = build_run(("a", build_task("x")), cluster=None)
    report = build_report(run, attempt_events("a", 1.7e9, 1.7e9, 1.7e9, 1.7e9 + 36, "local/worker-0"), {}, [])
    assert report.kind == "local"
    assert [(usage.device, usage.count) for usage in report.uses] == [("worker", 1)]


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


def test_recordings_of_earlier_runs_are_reused():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    tasks = {task.stem: task for task in run.list_tasks()}
    report = build_report(
        run, attempt_events("b", 0, 1, 2, 10, "n"), {stem: build_result(task) for stem, task in tasks.items()}, []
    )
    assert (report.counts["done"], report.reused) == (2, 1)
    assert report.audio_seconds == 600
    assert [row.reused for row in report.rows] == [True, False]


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


def test_a_run_that_has_not_begun():
    report = build_report(build_run(("a", build_task("x"))), [], {}, [])
    assert (report.makespan, report.speed, report.counts["waiting"]) == (0.0, None, 1)
    assert report.spans == report.uses == ()
