"""A whole report, number by number."""

from __future__ import annotations

import pytest

from epp_batch.output_folder import Failure
from epp_batch.report import Prices, Words, build
from tests.unit.epp_batch.report.given import event, life, pair, result, run, task


def failure(one, run, stage="decode", **other):
    key = one.key(run.options)
    known = {"key": key, "source": one.recording.source, "kind": "corrupt", "message": "it breaks off", "remedy": "r"}
    return Failure(**(known | {"stage": stage, "permanent": True} | other))


def test_times_are_counted_from_the_first_creation():
    report = build(*pair(), {}, [])
    assert (report.kind, report.began, report.makespan) == ("virtual", 1000.0, 400.0)
    assert [(span.allocated, span.running, span.ended) for span in report.spans] == [
        (1.0, 10.0, 110.0), (110.0, 120.0, 160.0), (200.0, 205.0, 400.0)
    ]  # fmt: skip
    assert report.latencies["wait"].max == 110.0
    assert report.latencies["start"].mean == pytest.approx((10 + 120) / 2)
    assert report.latencies["completion"].mean == pytest.approx((110 + 400) / 2)
    assert report.latencies["service"].max == 50 + 200


def test_evictions_and_preemptions():
    report = build(*pair(), {}, [])
    assert (report.evictions, report.preemptions, report.retries) == (1, 1, 0)
    assert [row.evictions for row in report.rows] == [0, 1]


def test_how_many_ran_and_waited():
    report = build(*pair(), {}, [])
    assert report.concurrency.peak == 1
    assert report.concurrency.mean == pytest.approx((100 + 40 + 195) / 400)
    assert report.concurrency.waiting == ((0.0, 2), (10.0, 1), (120.0, 0), (160.0, 1), (205.0, 0))


def test_speed_is_audio_by_makespan_and_by_device():
    report = build(*pair(), {}, [])
    assert report.speed == pytest.approx(1800 / 400)
    medium, large = report.models
    assert medium.service_rtf == pytest.approx(109 / 600)
    assert large.service_rtf == pytest.approx(250 / 1200)
    assert medium.transcribe_rtf is None


def test_workers_know_best_how_long_they_transcribed():
    made, events = pair()
    first = made.units[0].tasks[0]
    report = build(made, events, {"first": result(first, audio_seconds=500.0)}, [])
    assert report.models[0].transcribe_rtf == pytest.approx(60 / 500)
    assert report.uses[0].used == pytest.approx(60 / 3600)


def test_a_slice_costs_its_slots():
    made = run(("a", task("x")), ("b", task("y", "large")))
    events = [*life("a", 0, 0, 0, 3600, "n/gpu-0/0-0"), *life("b", 0, 0, 0, 3600, "n/gpu-0/4-7")]
    report = build(made, events, {}, [], Prices(gpu=8.0))
    assert [row.device_hours for row in report.rows] == [0.125, 0.5]
    assert [row.cost for row in report.rows] == [1.0, 4.0]
    (use,) = report.uses
    assert (use.count, use.peak, use.allocated, use.share, use.cost) == (1, 0.625, 0.625, 0.625, 5.0)


def test_a_gpu_that_changes_hands_is_held_once():
    report = build(*pair(), {}, [])
    assert report.uses[0].peak == 1


def test_shares_say_what_places_do_not():
    made = run(("a", task("x")), ("b", task("y", "tiny")))
    events = [*life("a", 0, 0, 0, 3600, "node-1"), *life("b", 0, 0, 0, 3600, "node-1")]
    report = build(made, events, {}, [], Prices(gpu=8.0, worker=1.0), shares={"medium": 0.25, "tiny": 0.0})
    assert [(use.device, use.allocated, use.count) for use in report.uses] == [("gpu", 0.25, 0), ("worker", 1.0, 1)]
    assert report.cost == pytest.approx(2.0 + 1.0)


def test_models_on_other_gpus_have_other_prices():
    made, events = pair()
    report = build(made, events, {}, [], Prices(gpu=1.0, models={"large": 10.0}))
    assert report.cost == pytest.approx((109 + 2500) / 3600)


def test_without_a_price_there_is_no_cost():
    assert build(*pair(), {}, []).cost is None
    assert build(*pair(), {}, [], Prices(models={"large": 1.0})).cost is None


@pytest.mark.parametrize(
    ("devices", "place"),
    [
        ("GPU-4f1c2d3e-0000-1111-2222-333344445555", "n/gpu-4f1c2d3e"), ("3", "n/gpu-3"), ("0,1", "n"), ("void", "n"),
        ("MIG-4f1c2d3e-0000-1111-2222-333344445555", "n"),
    ],
)  # fmt: skip
def test_the_worker_knows_which_gpu_of_the_node_it_had(devices, place):
    made = run(("a", task("x")))
    report = build(made, life("a", 0, 1, 2, 9, "n"), {"x": result(made.tasks()[0], devices=devices)}, [])
    assert report.spans[0].place == place


def test_a_local_run_holds_workers():
    made = run(("a", task("x")), cluster=None)
    report = build(made, life("a", 1.7e9, 1.7e9, 1.7e9, 1.7e9 + 36, "local/worker-0"), {}, [])
    assert report.kind == "local"
    assert [(use.device, use.count) for use in report.uses] == [("worker", 1)]


def test_idle_days_between_two_invocations_are_nobodys_latency():
    made = run(("a", task("x")), ("b", task("y")))
    events = [
        *life("a", 0, 1, 2, 100, "n"), *life("b", 0, 1, 2, 50, "n", "failed"),
        *life("b", 90_000, 90_001, 90_002, 90_060, "n"),
    ]  # fmt: skip
    report = build(made, events, {}, [])
    assert report.makespan == 160
    assert [(cut.at, cut.seconds) for cut in report.cuts] == [(100, 89_900)]
    assert report.rows[1].completion == 60
    assert report.rows[1].finished == 160


def test_what_was_finished_before_is_told_apart():
    made = run(("a", task("x")), ("b", task("y")))
    tasks = {one.stem: one for one in made.tasks()}
    report = build(made, life("b", 0, 1, 2, 10, "n"), {stem: result(one) for stem, one in tasks.items()}, [])
    assert (report.counts["done"], report.reused) == (2, 1)
    assert report.audio_seconds == 600
    assert [row.reused for row in report.rows] == [True, False]


def test_results_stand_in_for_a_journal_that_was_lost():
    made = run(("a", task("x")), cluster=None)
    kept = result(made.tasks()[0], started=1.7e9, finished=1.7e9 + 30, host="box")
    report = build(made, [], {"x": kept}, [])
    assert report.makespan == 30
    assert report.spans[0].place == "box"


def test_an_end_that_nobody_wrote_is_when_the_worker_finished():
    """Its driver was killed in between."""
    made = run(("a", task("x")), ("b", task("y")))
    events = [*life("a", 0, 1, 2, 9, "n/gpu-0")[:3], *life("b", 0, 1, 2, 50, "n/gpu-1")]
    report = build(made, events, {"x": result(made.tasks()[0], finished=30.0)}, [])
    assert report.complete
    assert [(span.ended, span.ending) for span in report.spans] == [(30, "finished"), (50, "finished")]


def test_a_run_under_way():
    made = run(("a", task("x")), ("b", task("y")), ("c", task("z")))
    events = [*life("a", 0, 1, 2, 10, "n"), *life("b", 0, 11, 12, 99, "n")[:3], event(20, "c", "created")]
    report = build(made, events, {}, [])
    assert not report.complete
    assert (report.counts["done"], report.counts["running"], report.counts["waiting"]) == (1, 1, 1)
    assert report.spans[-1].ended == 20


def test_every_failure_has_a_line():
    made = run(("a", task("x")), ("b", task("y")), ("c", task("z")))
    events = [
        *life("a", 0, 1, 2, 10, "n", "failed"),
        *life("b", 0, 1, 2, 10, "n", "failed", detail="pod: OOMKilled"),
        *life("c", 0, 1, 2, 10, "n"),
    ]
    first, _, third = made.tasks()
    unread = failure(first, made, stage="probe", key="", source="no.mp3", message="the file is empty")
    given = [unread, failure(first, made), failure(third, made, stage="summary", message="429", remedy="wait")]
    report = build(made, events, {}, given)
    assert [str(trouble) for trouble in report.troubles] == [
        "no.mp3: probe: the file is empty; r",
        "x.mp3: decode: it breaks off; r",
        "z.mp3: summary: 429; wait",
        "y.mp3: pod: OOMKilled; the worker's log has more: epp-batch logs",
    ]
    assert (report.counts["failed"], report.recordings) == (3, 4)


def test_shards_are_divided_by_length():
    made = run(("a", task("x", seconds=100.0), task("y", seconds=300.0)))
    events = [*life("a", 0, 0, 0, 100, "n/gpu-0", stem="x"), event(400, "a", "finished", stem="y")]
    report = build(made, events, {}, [], Prices(gpu=9.0))
    assert [row.completion for row in report.rows] == [100, 400]
    assert [row.service for row in report.rows] == [100, 300]
    assert [row.cost for row in report.rows] == pytest.approx([0.25, 0.75])


def test_of_a_shard_that_failed_what_is_there_is_done():
    made = run(("a", task("x"), task("y")))
    events = life("a", 0, 0, 0, 100, "n/gpu-0", "failed")
    report = build(made, events, {"x": result(made.tasks()[0])}, [])
    assert [row.status for row in report.rows] == ["done", "failed"]


def test_word_errors_are_summed_before_they_are_divided():
    words = {"first": Words(reference=10, substitutions=5), "second": Words(reference=90, insertions=1, deletions=3)}
    report = build(*pair(), {}, [], words=words, normaliser="n")
    assert report.wer == pytest.approx(9 / 100)
    assert [one.wer for one in report.models] == pytest.approx([0.5, 4 / 90])


def test_summaries_begin_before_the_last_transcript():
    made, events = pair()
    told = [
        event(1111, "a", "summarizing", stem="first"), event(1112, "a", "summarizing", stem="first", attempt=2),
        event(1114, "a", "first-token", stem="first"), event(1120, "a", "summarized", stem="first"),
        event(1401, "b", "summarizing", stem="second"), event(1410, "b", "unsummarized", stem="second"),
    ]  # fmt: skip
    report = build(made, [*events, *told], {}, [])
    assert (report.makespan, report.length) == (400, 410)
    assert report.handed_off() == (120, 400)
    assert (report.latencies["ttft"].mean, report.latencies["summary"].mean) == (2, 9)
    assert report.latencies["handoff"].mean == 10
    assert [span.ending for span in report.summaries] == ["summarized", "unsummarized"]
    assert report.rows[0].ttft == 2


def test_events_of_other_runs_in_the_same_folder_are_left_out():
    made, events = pair()
    report = build(made, [*life("old", 0, 1, 2, 10, "n"), *events], {}, [])
    assert report.began == 1000.0


def test_a_run_that_has_not_begun():
    report = build(run(("a", task("x"))), [], {}, [])
    assert (report.makespan, report.speed, report.counts["waiting"]) == (0.0, None, 1)
    assert report.spans == report.uses == ()
