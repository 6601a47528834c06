"""Local runs without real workers: skipping, failures, shards, stopping.

With real workers: tests/e2e/test_transcribe.py.
"""

from __future__ import annotations

import asyncio
import io

import pytest

from epp.clock import ManualClock
from epp.tasks import Tasks
from epp_batch import progress_view, timeline
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.local import WorkerPool
from epp_batch.output_folder import TranscriptionResult, save_struct, write_atomically
from epp_batch.spec import Run, TranscriptionOptions, Unit
from epp_batch.timeline import Journal
from epp_batch.worker import outputs
from tests.unit.epp_batch.local.conftest import OPTIONS, create_broken_worker, task


@pytest.fixture
async def tasks():
    tasks = Tasks("test")
    yield tasks
    await tasks.close()


def run_of(folder, *tasks):
    units = tuple(Unit(name=f"r-{one.stem}", tasks=(one,)) for one in tasks)
    return Run(name="r", output=str(folder.root), options=OPTIONS, units=units)


def write_finished(folder, one):
    write_atomically(folder.path(one.stem, "txt"), b"hello\n")
    result = TranscriptionResult(
        key=one.key(OPTIONS), source=one.recording.source, sha256=one.stem, model=one.model, options=OPTIONS,
        audio_seconds=11.0, files={"txt": 6},
    )  # fmt: skip
    save_struct(folder.path(one.stem, "done.json"), result)
    return result


def write_failed(folder, one, kind):
    error = TaskError(kind, TaskStage.TRANSCRIBE, one.recording.source, "no")
    return outputs.write_failure(folder, one, error, one.key(OPTIONS), 1.0)


async def transcribe(run, folder, tasks, workers=(), *, retry_failed=False, done=None):
    journal, errors = Journal(folder.events_file), io.StringIO()
    pool = WorkerPool(
        run, folder, workers, model_paths={}, threads=1, retry_failed=retry_failed, clock=ManualClock(),
        journal=journal, view=progress_view.choose_view(io.StringIO(), errors=errors),
        on_done=(done if done is not None else {}).__setitem__,
    )  # fmt: skip
    try:
        return await pool.transcribe(tasks, asyncio.Event()), errors.getvalue()
    finally:
        journal.close()


async def test_finished_task_is_reported_and_gets_its_new_stems(folder, tasks):
    one, done = task("a", "sub/b"), {}
    result = write_finished(folder, one)
    outcome, _ = await transcribe(run_of(folder, one), folder, tasks, done=done)
    assert (outcome.done, outcome.skipped, outcome.failed) == (0, 1, [])
    assert done == {one: result}
    assert folder.path("sub/b", "txt").read_bytes() == b"hello\n"
    assert timeline.read_events(folder.events_file) == []


async def test_content_failure_is_not_retried(folder, tasks):
    one = task("a")
    failure = write_failed(folder, one, FailureKind.SILENT)
    outcome, errors = await transcribe(run_of(folder, one), folder, tasks)
    assert outcome.failed == [failure]
    assert errors.startswith("/audio/a.wav: transcribe: no; ")


@pytest.mark.parametrize(
    ("kind", "retry_failed", "options"),
    [
        (FailureKind.MISSING, False, OPTIONS),
        (FailureKind.SILENT, True, OPTIONS),
        (FailureKind.SILENT, False, TranscriptionOptions(vad=False)),
    ],
)
async def test_other_failures_are_retried(folder, tasks, kind, retry_failed, options):
    one = task("a")
    before = write_failed(folder, one, kind)
    run = Run(name="r", output=str(folder.root), options=options, units=run_of(folder, one).units)
    outcome, _ = await transcribe(run, folder, tasks, [create_broken_worker(folder)], retry_failed=retry_failed)
    assert [failure.kind for failure in outcome.failed] == ["internal"]
    assert folder.load_failure("a") != before


async def test_dead_worker_fails_its_current_recording_only(folder, tasks):
    one, two = task("a"), task("b")
    outcome, errors = await transcribe(run_of(folder, one, two), folder, tasks, [create_broken_worker(folder)])
    assert [failure.source for failure in outcome.failed] == [one.recording.source, two.recording.source]
    assert "the worker ended with code 1" in errors
    events = timeline.read_events(folder.events_file)
    assert [event.kind for event in events if event.unit == "r-b"] == ["created", "admitted", "running", "failed"]
    assert [event.attempt for event in events if event.unit == "r-b"] == [0, 1, 1, 1]
    again, _ = await transcribe(run_of(folder, one), folder, tasks, [create_broken_worker(folder)])
    assert len(again.failed) == 1
    assert timeline.read_events(folder.events_file)[-1].attempt == 2


async def test_shard_has_an_event_for_each_recording(folder, tasks):
    shard = Unit(name="r-ab", tasks=(task("a"), task("b")))
    run = Run(name="r", output=str(folder.root), options=OPTIONS, units=(shard,))
    outcome, _ = await transcribe(run, folder, tasks, [create_broken_worker(folder)])
    assert len(outcome.failed) == 2
    assert [(event.kind, event.stem) for event in timeline.read_events(folder.events_file)] == [
        ("created", ""), ("admitted", ""), ("running", ""), ("failed", "a"), ("failed", "b"), ("failed", ""),
    ]  # fmt: skip


async def test_stem_that_cannot_be_written_is_a_failure(folder, tasks):
    one = task("a", "file/b")
    write_finished(folder, one)
    (folder.root / "file").write_text("")
    outcome, _ = await transcribe(run_of(folder, one), folder, tasks)
    assert [(failure.kind, failure.stage) for failure in outcome.failed] == [("unwritable", "write")]


async def test_stop_before_the_start(folder, tasks):
    stop, journal = asyncio.Event(), Journal(folder.events_file)
    stop.set()
    pool = WorkerPool(
        run_of(folder, task("a")), folder, [], model_paths={}, threads=1, retry_failed=False, clock=ManualClock(),
        journal=journal, view=progress_view.choose_view(io.StringIO()),
    )  # fmt: skip
    outcome = await pool.transcribe(tasks, stop)
    journal.close()
    assert outcome.failed == []
