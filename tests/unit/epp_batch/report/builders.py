"""Runs, events and output folders for the tests of reports."""

from __future__ import annotations

from random import Random

from epp_batch.output_folder import (
    OutputFolder,
    TaskFailure,
    TranscriptionResult,
    save_struct,
    write_atomically,
)
from epp_batch.report import build_report
from epp_batch.spec import ClusterOptions, Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.timeline import Journal, TimelineEvent

CLUSTER = ClusterOptions(namespace="audio", queue="gpus", image="worker")


def build_task(stem, model="medium", seconds=600.0, reference=None):
    recording = Recording(source=f"{stem}.mp3", stems=(stem,), sha256=stem, seconds=seconds, reference=reference)
    return Task(recording=recording, model=model)


def build_run(*units, cluster=CLUSTER, name="calls", created=0.0):
    """A run; each unit is given as (name, task, ...)."""
    built = tuple(Unit(name=unit, tasks=tuple(tasks)) for unit, *tasks in units)
    return Run(name=name, output="/out", options=TranscriptionOptions(), units=built, cluster=cluster, created=created)


def build_event(at, unit, kind, place="", **fields):
    return TimelineEvent(at=at, unit=unit, kind=kind, place=place, **fields)


def attempt_events(unit, created, admitted, running, ended, place, kind="finished", **fields):
    """The events of a unit with one attempt; `fields` are those of the last, which is of `kind`."""
    return [
        build_event(created, unit, "created"),
        build_event(admitted, unit, "admitted", attempt=1),
        build_event(running, unit, "running", place, attempt=1),
        build_event(ended, unit, kind, attempt=1, **fields),
    ]


def build_result(task, **fields):
    defaults = {"audio_seconds": task.recording.seconds, "language": "en", "timings": {"transcribe": 60.0}, "rtf": 0.1}
    return TranscriptionResult(
        key=task.key(TranscriptionOptions()),
        source=task.recording.source,
        sha256=task.stem,
        model=task.model,
        options=TranscriptionOptions(),
        **(defaults | fields),
    )


def run_with_eviction():
    """A run and its events: two units on one GPU, one after the other; the second is evicted once."""
    run = build_run(("a", build_task("first")), ("b", build_task("second", "large", 1200.0)))
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
    return run, sorted(events, key=lambda event: event.at)


def run_with_many_attempts(units, gpus, slots):
    """A report of attempts one after the other on each device; with `slots`, of slices of all sizes."""
    rng = Random(units)
    parts = [(0, 3), (4, 4), (5, 5), (6, 6)] if slots else [None]
    free = {(gpu, part): 0.0 for gpu in range(gpus) for part in parts}
    run_units, events = [], []
    for number in range(units):
        gpu, part = min(free, key=free.__getitem__)
        begin, end = free[gpu, part], free[gpu, part] + rng.uniform(30, 900)
        free[gpu, part] = end
        run_units.append((f"u{number}", build_task(f"calls/call-{number:04d}", rng.choice(["medium", "large"]))))
        place = f"node/gpu-{gpu}" + (f"/{part[0]}-{part[1]}" if part else "")
        events += attempt_events(f"u{number}", 0, begin, begin + 5, end, place)
    return build_report(build_run(*run_units), events, {}, [])


def fill_folder(root, run, events):
    """An output folder with a run and its journal."""
    folder = OutputFolder(root)
    folder.save_run(run)
    journal = Journal(folder.events_file)
    for event in events:
        journal.append(event)
    journal.close()
    return folder


def save_failure(folder, stem, key, **fields):
    defaults = {"source": f"{stem}.mp3", "stage": "decode", "kind": "corrupt", "message": "it breaks off"}
    failure = TaskFailure(key=key, permanent=True, **(defaults | {"remedy": "r"} | fields))
    save_struct(folder.path(stem, "failed.json"), failure)


def folder_with_failures(root):
    """A folder with a finished task that has a reference, a failed task, and a source that could not be read."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "reference.txt").write_text("Good morning everybody.")
    good, bad = build_task("good", reference=str(root / "reference.txt")), build_task("bad")
    events = [
        *attempt_events("a", 1000, 1001, 1002, 1100, "n/gpu-0"),
        *attempt_events("b", 1000, 1001, 1002, 1050, "n/gpu-1", "failed"),
    ]
    folder = fill_folder(root / "out", build_run(("a", good), ("b", bad), created=1000.0), events)
    write_atomically(folder.path("good", "txt"), b"good morning to everybody\n")
    save_struct(folder.path("good", "done.json"), build_result(good, files={"txt": 26}))
    save_failure(folder, "bad", bad.key(folder.load_run().options), at=1050.0)
    save_failure(folder, "deep/unread", "", source="unread.mp3", at=1000.0)
    return folder
