"""Outcomes of tasks, from files, termination messages and conditions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from epp_batch.controller.task_results import (
    RESULT_FILE_GRACE_SECONDS,
    TERMINATION_MESSAGE_GRACE_SECONDS,
    TaskResults,
    TaskTracker,
)
from epp_batch.controller.unit_status import UnitObjects, derive_unit_status
from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions, Unit
from tests.unit.epp_batch.controller.objects import RUNNING, T0, make_condition, make_job, make_pod, make_workload

OPTIONS = TranscriptionOptions()
A, B = (Task(recording=Recording(source=f"{n}.wav", stems=(n,), sha256=n, seconds=9.0), model="tiny") for n in "ab")
ONE, SHARD = Unit(name="r-1", tasks=(A,)), Unit(name="r-2", tasks=(A, B))
COMPLETE = UnitObjects(make_job(make_condition("Complete")))
NOW = T0 + 60.0


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    return OutputFolder(tmp_path)


def track(folder: OutputFolder, *units: Unit) -> TaskTracker:
    return TaskTracker(Run(name="r", output=str(folder.root), options=OPTIONS, units=units), folder)


def finalize(tracker: TaskTracker, unit: Unit, objects: UnitObjects, seconds_since_end: float) -> TaskResults:
    return tracker.finalize_unit(unit, derive_unit_status(objects), objects, NOW, seconds_since_end)


def make_result(task: Task, **more: object) -> TranscriptionResult:
    return TranscriptionResult(
        key=task.key(OPTIONS), source="s", sha256="", model="tiny", options=OPTIONS, audio_seconds=9.0, **more
    )  # type: ignore[arg-type]


def make_failure(task: Task, *, permanent: bool, at: float = T0 + 50.0, kind: str = "corrupt") -> TaskFailure:
    return TaskFailure(
        key=task.key(OPTIONS), source="as the worker sees it", stage="decode", kind=kind, message="m", remedy="r",
        permanent=permanent, at=at,
    )  # fmt: skip


def termination_message(task: Task, **more: object) -> str:
    entry = {"stem": task.stem, "key": task.key(OPTIONS), "audio_seconds": 9.0, "timings": {"transcribe": 3.0}, **more}
    return msgspec.json.encode({"tasks": [entry]}).decode()


def test_a_task_with_a_transcript_in_the_folder_is_done(folder: OutputFolder):
    tracker = track(folder, SHARD)
    save_struct(folder.path("a", "done.json"), make_result(A, finished=5.0))
    assert [task.stem for task, _ in tracker.collect_finished(SHARD)] == ["a"]
    assert tracker.collect_finished(SHARD) == []
    assert tracker.open_tasks(SHARD) == [B]
    assert tracker.last_finished_at(SHARD) == 5.0


def test_a_missing_transcript_is_pending_and_after_the_grace_period_a_failure(folder: OutputFolder):
    tracker = track(folder, ONE)
    assert finalize(tracker, ONE, COMPLETE, RESULT_FILE_GRACE_SECONDS - 1) == TaskResults([], [])
    assert tracker.open_tasks(ONE) == [A]
    [(_, failed)] = finalize(tracker, ONE, COMPLETE, RESULT_FILE_GRACE_SECONDS + 1).failed
    assert (failed.kind, failed.stage) == ("missing", "write")
    assert folder.load_failure("a") == failed


def test_a_termination_message_is_the_result_if_no_file_appears_and_never_replaces_one(folder: OutputFolder):
    reported = UnitObjects(
        make_job(make_condition("Complete")),
        None,
        (make_pod("Succeeded", started_at=4, terminated={"message": termination_message(A)}),),
    )
    tracker = track(folder, ONE)
    assert finalize(tracker, ONE, reported, TERMINATION_MESSAGE_GRACE_SECONDS - 1) == TaskResults([], [])
    assert tracker.open_tasks(ONE) == [A]
    [(_, taken)] = finalize(tracker, ONE, reported, TERMINATION_MESSAGE_GRACE_SECONDS + 1).done
    assert (taken.audio_seconds, taken.host, round(taken.rtf, 3)) == (9.0, "n1", 0.333)
    assert track(folder, ONE).collect_finished(ONE)[0][1] == taken
    folder.path("a", "done.json").write_bytes(b"{half")
    finalize(track(folder, ONE), ONE, reported, TERMINATION_MESSAGE_GRACE_SECONDS + 1)
    assert folder.path("a", "done.json").read_bytes() == b"{half"


def test_a_termination_message_is_no_result_if_workers_share_the_folder(folder: OutputFolder):
    folder.path("b", "txt").write_text("hello")
    save_struct(folder.path("b", "done.json"), make_result(B, files={"txt": 5}))
    reported = UnitObjects(
        make_job(make_condition("Complete")),
        None,
        (make_pod("Succeeded", started_at=4, terminated={"message": termination_message(A)}),),
    )
    tracker = track(folder, SHARD)
    assert [task for task, _ in finalize(tracker, SHARD, reported, TERMINATION_MESSAGE_GRACE_SECONDS + 1).done] == [B]
    assert tracker.open_tasks(SHARD) == [A]
    [(_, failed)] = finalize(tracker, SHARD, reported, RESULT_FILE_GRACE_SECONDS + 1).failed
    assert failed.kind == "missing"


def failed_job(*, terminated: dict, **more: object) -> UnitObjects:
    return UnitObjects(
        make_job(make_condition("Failed", reason="BackoffLimitExceeded", message="too often")),
        RUNNING.workload,
        (make_pod("Failed", started_at=4, terminated=terminated, **more),),  # type: ignore[arg-type]
    )


def test_the_workers_failure_file_counts_if_it_is_of_the_last_attempt(folder: OutputFolder):
    objects = failed_job(terminated={"exitCode": 64})
    save_struct(folder.path("a", "failed.json"), make_failure(A, permanent=True, at=T0 + 8.0))
    [(_, reported)] = finalize(track(folder, ONE), ONE, objects, 0).failed
    assert (reported.kind, reported.message, reported.source) == ("corrupt", "m", "a.wav")
    killed = failed_job(terminated={"exitCode": 137, "reason": "OOMKilled"})
    save_struct(folder.path("a", "failed.json"), make_failure(A, permanent=False, at=T0 + 1.0, kind="download"))
    [(_, now)] = finalize(track(folder, ONE), ONE, killed, 0).failed
    assert (now.kind, now.stage, now.message) == ("killed", "pod", "exit code 137 (OOMKilled)")


def test_a_failure_in_the_termination_message(folder: OutputFolder):
    text = termination_message(A, kind="corrupt", stage="decode", message="no audio stream")
    objects = failed_job(terminated={"exitCode": 64, "message": text})
    [(_, failed)] = finalize(track(folder, ONE), ONE, objects, 0).failed
    assert (failed.kind, failed.stage, failed.message) == ("corrupt", "decode", "no audio stream")
    assert failed.remedy == FailureKind.CORRUPT.remedy


def test_a_log_tail_instead_of_a_termination_message_is_ignored(folder: OutputFolder):
    objects = failed_job(terminated={"exitCode": 3, "message": "Traceback (most recent call last):"})
    [(_, failed)] = finalize(track(folder, ONE), ONE, objects, 0).failed
    assert (failed.kind, failed.message) == ("internal", "exit code 3")


def test_tasks_of_a_shard_end_one_by_one(folder: OutputFolder):
    objects = failed_job(terminated={"exitCode": 137, "reason": "OOMKilled"})
    save_struct(folder.path("a", "done.json"), make_result(A))
    results = finalize(track(folder, SHARD), SHARD, objects, 0)
    assert ([t.stem for t, _ in results.done], [t.stem for t, _ in results.failed]) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("objects", "kind", "stage"),
    [
        (
            UnitObjects(make_job(make_condition("Failed", reason="DeadlineExceeded", message="too long"))),
            "timeout",
            "pod",
        ),
        (UnitObjects(make_job(make_condition("Failed", reason="BackoffLimitExceeded"))), "internal", "pod"),
        (failed_job(terminated={"exitCode": 143}), "stopped", "pod"),
        (failed_job(terminated={"exitCode": 75}), "timeout", "pod"),
    ],
)
def test_a_failed_job_without_message_or_file_is_explained_by_its_objects(
    folder: OutputFolder, objects: UnitObjects, kind: str, stage: str
):
    [(_, failed)] = finalize(track(folder, ONE), ONE, objects, 0).failed
    assert (failed.kind, failed.stage) == (kind, stage)


def test_a_unit_that_can_never_be_admitted_is_refused(folder: OutputFolder):
    never = make_workload(make_condition("QuotaReserved", "False", "Inadmissible", "LocalQueue lq doesn't exist"))
    [(_, refused)] = track(folder, ONE).fail_unit(ONE, derive_unit_status(UnitObjects(make_job(), never)), NOW)
    assert (refused.kind, refused.stage, refused.message) == ("refused", "queue", "LocalQueue lq doesn't exist")
    long = make_workload(active=False, evictions=1, reason="Deactivated", cause="MaximumExecutionTimeExceeded")
    [(_, stopped)] = track(folder, ONE).fail_unit(ONE, derive_unit_status(UnitObjects(make_job(), long)), NOW)
    assert stopped.kind == "timeout"


def test_permanent_failures_are_kept_and_transient_ones_are_retried(folder: OutputFolder):
    save_struct(folder.path("a", "failed.json"), make_failure(A, permanent=True))
    save_struct(folder.path("b", "failed.json"), make_failure(B, permanent=False))
    tracker = track(folder, SHARD)
    assert [task.stem for task, _ in tracker.collect_failed(SHARD)] == ["a"]
    assert tracker.open_tasks(SHARD) == [B]
    assert [task.stem for task, _ in track(folder, SHARD).collect_failed(SHARD, final=True)] == ["a", "b"]


def test_a_failure_file_of_another_task_key_is_ignored(folder: OutputFolder):
    save_struct(folder.path("a", "failed.json"), msgspec.structs.replace(make_failure(A, permanent=True), key="other"))
    assert track(folder, ONE).collect_failed(ONE) == []


def test_a_folder_that_cannot_be_written_raises_no_error(tmp_path: Path):
    (tmp_path / "out").write_text("a file, not a folder")
    objects = failed_job(terminated={"exitCode": 1})
    tracker = track(OutputFolder(tmp_path / "out"), ONE)
    assert len(finalize(tracker, ONE, objects, 0).failed) == 1
