"""Runs for the tests of reports."""

from __future__ import annotations

from epp_batch.output_folder import TranscriptionResult
from epp_batch.spec import ClusterOptions, Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.timeline import TimelineEvent

CLUSTER = ClusterOptions(namespace="audio", queue="gpus", image="worker")


def build_task(stem, model="medium", seconds=600.0, reference=None):
    recording = Recording(source=f"{stem}.mp3", stems=(stem,), sha256=stem, seconds=seconds, reference=reference)
    return Task(recording=recording, model=model)


def build_run(*units, cluster=CLUSTER, name="calls", created=0.0):
    """Units as (name, task, …)."""
    made = tuple(Unit(name=unit, tasks=tuple(tasks)) for unit, *tasks in units)
    return Run(name=name, output="/out", options=TranscriptionOptions(), units=made, cluster=cluster, created=created)


def build_event(at, unit, kind, place="", **other):
    return TimelineEvent(at=at, unit=unit, kind=kind, place=place, **other)


def attempt_events(unit, created, admitted, running, ended, place, kind="finished", **other):
    """One attempt from beginning to end."""
    return [
        build_event(created, unit, "created"),
        build_event(admitted, unit, "admitted", attempt=1),
        build_event(running, unit, "running", place, attempt=1),
        build_event(ended, unit, kind, attempt=1, **other),
    ]


def build_result(one, **other):
    known = {"audio_seconds": one.recording.seconds, "language": "en", "timings": {"transcribe": 60.0}, "rtf": 0.1}
    known |= other
    return TranscriptionResult(
        key=one.key(TranscriptionOptions()),
        source=one.recording.source,
        sha256=one.stem,
        model=one.model,
        options=TranscriptionOptions(),
        **known,
    )


def run_with_eviction():
    """Two units on one GPU, one after the other; the second is evicted once."""
    made = build_run(("a", build_task("first")), ("b", build_task("second", "large", 1200.0)))
    events = [
        *attempt_events("a", 1000.0, 1001.0, 1010.0, 1110.0, "n/gpu-0"),
        build_event(1000.0, "b", "created"),
        build_event(1110.0, "b", "admitted", attempt=1),
        build_event(1120.0, "b", "running", "n/gpu-0", attempt=1),
        build_event(1160.0, "b", "evicted", detail="Preempted: InClusterQueue", attempt=1),
        build_event(1200.0, "b", "admitted", attempt=2),
        build_event(1205.0, "b", "running", "n/gpu-0", attempt=2),
        build_event(1400.0, "b", "finished", attempt=2),
    ]
    return made, [msg for _, msg in sorted(enumerate(events), key=lambda item: (item[1].at, item[0]))]
