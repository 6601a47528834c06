"""Runs for the tests of reports."""

from __future__ import annotations

from epp_batch.output_folder import Result
from epp_batch.spec import Cluster, Options, Recording, Run, Task, Unit
from epp_batch.timeline import Event

CLUSTER = Cluster(namespace="audio", queue="gpus", image="worker")


def task(stem, model="medium", seconds=600.0, reference=None):
    recording = Recording(source=f"{stem}.mp3", stems=(stem,), sha256=stem, seconds=seconds, reference=reference)
    return Task(recording=recording, model=model)


def run(*units, cluster=CLUSTER, name="calls", created=0.0):
    """Units as (name, task, …)."""
    made = tuple(Unit(name=unit, tasks=tuple(tasks)) for unit, *tasks in units)
    return Run(name=name, output="/out", options=Options(), units=made, cluster=cluster, created=created)


def event(at, unit, kind, place="", **other):
    return Event(at=at, unit=unit, kind=kind, place=place, **other)


def life(unit, created, admitted, running, ended, place, kind="finished", **other):
    """One attempt from beginning to end."""
    return [
        event(created, unit, "created"),
        event(admitted, unit, "admitted", attempt=1),
        event(running, unit, "running", place, attempt=1),
        event(ended, unit, kind, attempt=1, **other),
    ]


def result(one, **other):
    known = {"audio_seconds": one.recording.seconds, "language": "en", "timings": {"transcribe": 60.0}, "rtf": 0.1}
    known |= other
    return Result(
        key=one.key(Options()),
        source=one.recording.source,
        sha256=one.stem,
        model=one.model,
        options=Options(),
        **known,
    )


def pair():
    """Two units on one GPU, one after the other; the second is evicted once."""
    made = run(("a", task("first")), ("b", task("second", "large", 1200.0)))
    events = [
        *life("a", 1000.0, 1001.0, 1010.0, 1110.0, "n/gpu-0"),
        event(1000.0, "b", "created"),
        event(1110.0, "b", "admitted", attempt=1),
        event(1120.0, "b", "running", "n/gpu-0", attempt=1),
        event(1160.0, "b", "evicted", detail="Preempted: InClusterQueue", attempt=1),
        event(1200.0, "b", "admitted", attempt=2),
        event(1205.0, "b", "running", "n/gpu-0", attempt=2),
        event(1400.0, "b", "finished", attempt=2),
    ]
    return made, [msg for _, msg in sorted(enumerate(events), key=lambda item: (item[1].at, item[0]))]
