"""Counts, speed and remaining time of a run, from its events."""

from __future__ import annotations

from epp_batch.output_folder import TranscriptionResult
from epp_batch.progress_view.run_tracker import RunTracker
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.timeline import TimelineEvent


def task(stem: str, seconds: float | None = 60.0) -> Task:
    return Task(recording=Recording(source=f"/a/{stem}.mp3", stems=(stem,), seconds=seconds), model="tiny")


def run(*units: Unit) -> Run:
    return Run(name="r", output="/out", options=TranscriptionOptions(), units=units)


def unit(name: str, *tasks: Task) -> Unit:
    return Unit(name=name, tasks=tasks)


def result(seconds: float) -> TranscriptionResult:
    return TranscriptionResult(
        key="k", source="s", sha256="", model="tiny", options=TranscriptionOptions(), audio_seconds=seconds
    )


def event(at: float, name: str, kind: str, **more: object) -> TimelineEvent:
    return TimelineEvent(at=at, unit=name, kind=kind, **more)  # type: ignore[arg-type]


def test_phases_of_a_unit():
    tracker = RunTracker(run(unit("u", task("a"))))
    phases = []
    for kind in ("created", "reserved", "admitted", "running", "evicted", "requeued", "running", "retried", "finished"):
        tracker.apply_event(event(1.0, "u", kind))
        phases.append(tracker.recording_phase("a"))
    assert phases == ["queued", "admitted", "admitted", "running", "queued", "queued", "running", "admitted", "done"]


def test_recordings_of_a_shard_are_counted_one_by_one():
    tracker = RunTracker(run(unit("u", task("a"), task("b"), task("c"))))
    tracker.apply_event(event(1.0, "u", "running", place="n"))
    tracker.apply_event(event(2.0, "u", "finished", stem="a"))
    tracker.apply_event(event(3.0, "u", "failed", stem="b"))
    status = tracker.status(3.0)
    assert {k: v for k, v in status.phases.items() if v} == {"done": 1, "failed": 1, "running": 1}
    assert [r.stem for r in status.running] == ["c"]
    tracker.apply_event(event(4.0, "u", "evicted", detail="Preempted"))
    assert (tracker.recording_phase("a"), tracker.recording_phase("b"), tracker.recording_phase("c")) == (
        "done",
        "failed",
        "queued",
    )


def test_preemptions_are_counted_apart_from_other_evictions():
    tracker = RunTracker(run(unit("u", task("a"))))
    tracker.apply_event(event(1.0, "u", "evicted", detail="Preempted: InClusterQueue"))
    tracker.apply_event(event(2.0, "u", "evicted", detail="PodsReadyTimeout"))
    status = tracker.status(3.0)
    assert (status.preempted, status.evicted) == (1, 2)


def test_speed_and_remaining_time_include_running_units():
    tracker = RunTracker(run(unit("u", task("a", 100.0)), unit("v", task("b", 300.0))))
    assert tracker.status(0.0).eta is None
    tracker.apply_event(event(10.0, "u", "running", place="n"))
    tracker.record_progress("u", 50.0)
    status = tracker.status(15.0)
    assert (status.speed, status.audio_done, status.eta) == (10.0, 50.0, 35.0)
    tracker.record_result("a", result(100.0))
    tracker.apply_event(event(20.0, "u", "finished"))
    assert tracker.status(20.0).eta == 30.0


def test_progress_of_a_shard_counts_finished_recordings_once():
    tracker = RunTracker(run(unit("u", task("a", 100.0), task("b", 100.0))))
    tracker.apply_event(event(0.0, "u", "running", place="n"))
    tracker.record_result("a", result(100.0))
    tracker.record_progress("u", 130.0)
    assert tracker.status(10.0).audio_done == 130.0


def test_audio_done_before_does_not_count_for_the_speed():
    tracker = RunTracker(run(unit("u", task("a", 100.0)), unit("v", task("b", 100.0))))
    tracker.replay([event(0.0, "u", "running", place="n"), event(5.0, "u", "finished")])
    assert tracker.status(1000.0).speed is None
    tracker.apply_event(event(1000.0, "v", "running", place="n"))
    tracker.record_progress("v", 20.0)
    assert tracker.status(1010.0).speed == 2.0


def test_without_a_length_there_is_no_remaining_time():
    tracker = RunTracker(run(unit("u", task("a", None)), unit("v", task("b", 100.0))))
    tracker.apply_event(event(0.0, "v", "running", place="n"))
    tracker.record_progress("v", 10.0)
    assert tracker.status(10.0).eta is None
    tracker.record_result("a", result(40.0))
    status = tracker.status(10.0)
    assert (status.unknown_lengths, status.audio_total) == (0, 140.0)
    assert status.eta is not None


def test_events_of_other_units_and_stems_are_ignored():
    tracker = RunTracker(run(unit("u", task("a"))))
    tracker.apply_event(event(1.0, "other", "finished"))
    tracker.apply_event(event(1.0, "u", "finished", stem="unknown"))
    tracker.apply_event(event(1.0, "u", "first-token", stem="a"))
    assert tracker.recording_phase("a") == "planned"


def test_a_run_is_complete_when_every_recording_has_ended():
    tracker = RunTracker(run(unit("u", task("a")), unit("v", task("b"))))
    tracker.apply_event(event(1.0, "u", "finished"))
    assert not tracker.status(1.0).is_complete
    tracker.apply_event(event(1.0, "v", "cancelled"))
    assert tracker.status(1.0).is_complete
