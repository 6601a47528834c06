"""What a unit has come to: from its files, its pod's note, its conditions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from epp_batch.controller.task_results import RESULT_FILE_GRACE_SECONDS, TERMINATION_MESSAGE_GRACE_SECONDS, TaskTracker
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


def books(folder: OutputFolder, *units: Unit) -> TaskTracker:
    return TaskTracker(Run(name="r", output=str(folder.root), options=OPTIONS, units=units), folder)


def result(task: Task, **more: object) -> TranscriptionResult:
    return TranscriptionResult(
        key=task.key(OPTIONS), source="s", sha256="", model="tiny", options=OPTIONS, audio_seconds=9.0, **more
    )  # type: ignore[arg-type]


def failure(task: Task, *, permanent: bool, at: float = T0 + 50.0, kind: str = "corrupt") -> TaskFailure:
    return TaskFailure(
        key=task.key(OPTIONS), source="as the worker sees it", stage="decode", kind=kind, message="m", remedy="r",
        permanent=permanent, at=at,
    )  # fmt: skip


def note(task: Task, **more: object) -> str:
    entry = {"stem": task.stem, "key": task.key(OPTIONS), "audio_seconds": 9.0, "timings": {"transcribe": 3.0}, **more}
    return msgspec.json.encode({"tasks": [entry]}).decode()


def test_a_transcript_in_the_folder_is_done(folder: OutputFolder):
    ours = books(folder, SHARD)
    save_struct(folder.path("a", "done.json"), result(A, finished=5.0))
    assert [task.stem for task, _ in ours.collect_finished(SHARD)] == ["a"]
    assert ours.collect_finished(SHARD) == []
    assert ours.open_tasks(SHARD) == [B]
    assert ours.last_finished_at(SHARD) == 5.0


def test_a_missing_file_is_waited_for_and_then_a_failure(folder: OutputFolder):
    ours = books(folder, ONE)
    assert ours.finalize_unit(ONE, derive_unit_status(COMPLETE), COMPLETE, NOW, RESULT_FILE_GRACE_SECONDS - 1).pending
    [(_, failed)] = ours.finalize_unit(
        ONE, derive_unit_status(COMPLETE), COMPLETE, NOW, RESULT_FILE_GRACE_SECONDS + 1
    ).failed
    assert (failed.kind, failed.stage) == ("missing", "write")
    assert folder.load_failure("a") == failed


def test_a_note_counts_where_no_file_appears_and_never_replaces_one(folder: OutputFolder):
    said = UnitObjects(
        make_job(make_condition("Complete")), None, (make_pod("Succeeded", began=4, ended={"message": note(A)}),)
    )
    ours = books(folder, ONE)
    assert ours.finalize_unit(ONE, derive_unit_status(said), said, NOW, TERMINATION_MESSAGE_GRACE_SECONDS - 1).pending
    [(_, taken)] = ours.finalize_unit(
        ONE, derive_unit_status(said), said, NOW, TERMINATION_MESSAGE_GRACE_SECONDS + 1
    ).done
    assert (taken.audio_seconds, taken.host, round(taken.rtf, 3)) == (9.0, "n1", 0.333)
    assert books(folder, ONE).collect_finished(ONE)[0][1] == taken
    folder.path("a", "done.json").write_bytes(b"{half")
    books(folder, ONE).finalize_unit(ONE, derive_unit_status(said), said, NOW, TERMINATION_MESSAGE_GRACE_SECONDS + 1)
    assert folder.path("a", "done.json").read_bytes() == b"{half"


def test_a_note_is_not_enough_in_a_folder_that_workers_share(folder: OutputFolder):
    folder.path("b", "txt").write_text("hello")
    save_struct(folder.path("b", "done.json"), result(B, files={"txt": 5}))
    said = UnitObjects(
        make_job(make_condition("Complete")), None, (make_pod("Succeeded", began=4, ended={"message": note(A)}),)
    )
    ours = books(folder, SHARD)
    assert ours.finalize_unit(SHARD, derive_unit_status(said), said, NOW, TERMINATION_MESSAGE_GRACE_SECONDS + 1).pending
    [(_, failed)] = ours.finalize_unit(SHARD, derive_unit_status(said), said, NOW, RESULT_FILE_GRACE_SECONDS + 1).failed
    assert failed.kind == "missing"


def failed_job(*, ended: dict, **more: object) -> UnitObjects:
    return UnitObjects(
        make_job(make_condition("Failed", reason="BackoffLimitExceeded", message="too often")),
        RUNNING.workload,
        (make_pod("Failed", began=4, ended=ended, **more),),  # type: ignore[arg-type]
    )


def test_the_workers_words_count_if_they_are_of_its_last_attempt(folder: OutputFolder):
    facts = failed_job(ended={"exitCode": 64})
    save_struct(folder.path("a", "failed.json"), failure(A, permanent=True, at=T0 + 8.0))
    [(_, said)] = books(folder, ONE).finalize_unit(ONE, derive_unit_status(facts), facts, NOW, 0).failed
    assert (said.kind, said.message, said.source) == ("corrupt", "m", "a.wav")
    killed = failed_job(ended={"exitCode": 137, "reason": "OOMKilled"})
    save_struct(folder.path("a", "failed.json"), failure(A, permanent=False, at=T0 + 1.0, kind="download"))
    [(_, now)] = books(folder, ONE).finalize_unit(ONE, derive_unit_status(killed), killed, NOW, 0).failed
    assert (now.kind, now.stage, now.message) == ("killed", "pod", "exit code 137 (OOMKilled)")


def test_a_failure_in_the_note(folder: OutputFolder):
    text = note(A, kind="corrupt", stage="decode", message="no audio stream")
    facts = failed_job(ended={"exitCode": 64, "message": text})
    [(_, failed)] = books(folder, ONE).finalize_unit(ONE, derive_unit_status(facts), facts, NOW, 0).failed
    assert (failed.kind, failed.stage, failed.message) == ("corrupt", "decode", "no audio stream")
    assert failed.remedy == FailureKind.CORRUPT.remedy


def test_the_log_tail_in_place_of_a_note_is_no_note(folder: OutputFolder):
    facts = failed_job(ended={"exitCode": 3, "message": "Traceback (most recent call last):"})
    [(_, failed)] = books(folder, ONE).finalize_unit(ONE, derive_unit_status(facts), facts, NOW, 0).failed
    assert (failed.kind, failed.message) == ("internal", "exit code 3")


def test_a_shard_ends_task_by_task(folder: OutputFolder):
    facts = failed_job(ended={"exitCode": 137, "reason": "OOMKilled"})
    save_struct(folder.path("a", "done.json"), result(A))
    settled = books(folder, SHARD).finalize_unit(SHARD, derive_unit_status(facts), facts, NOW, 0)
    assert ([t.stem for t, _ in settled.done], [t.stem for t, _ in settled.failed]) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("facts", "kind", "stage"),
    [
        (
            UnitObjects(make_job(make_condition("Failed", reason="DeadlineExceeded", message="too long"))),
            "timeout",
            "pod",
        ),
        (UnitObjects(make_job(make_condition("Failed", reason="BackoffLimitExceeded"))), "internal", "pod"),
        (failed_job(ended={"exitCode": 143}), "stopped", "pod"),
        (failed_job(ended={"exitCode": 75}), "timeout", "pod"),
    ],
)
def test_a_job_that_failed_without_words(folder: OutputFolder, facts: UnitObjects, kind: str, stage: str):
    [(_, failed)] = books(folder, ONE).finalize_unit(ONE, derive_unit_status(facts), facts, NOW, 0).failed
    assert (failed.kind, failed.stage) == (kind, stage)


def test_what_its_queue_refuses(folder: OutputFolder):
    never = make_workload(make_condition("QuotaReserved", "False", "Inadmissible", "LocalQueue lq doesn't exist"))
    [(_, refused)] = books(folder, ONE).fail_unit(ONE, derive_unit_status(UnitObjects(make_job(), never)), NOW)
    assert (refused.kind, refused.stage, refused.message) == ("refused", "queue", "LocalQueue lq doesn't exist")
    long = make_workload(active=False, evictions=1, reason="Deactivated", cause="MaximumExecutionTimeExceeded")
    [(_, stopped)] = books(folder, ONE).fail_unit(ONE, derive_unit_status(UnitObjects(make_job(), long)), NOW)
    assert stopped.kind == "timeout"


def test_what_failed_for_good_before_is_not_tried_again_and_what_may_pass_is(folder: OutputFolder):
    save_struct(folder.path("a", "failed.json"), failure(A, permanent=True))
    save_struct(folder.path("b", "failed.json"), failure(B, permanent=False))
    ours = books(folder, SHARD)
    assert [task.stem for task, _ in ours.collect_failed(SHARD)] == ["a"]
    assert ours.open_tasks(SHARD) == [B]
    assert [task.stem for task, _ in books(folder, SHARD).collect_failed(SHARD, final=True)] == ["a", "b"]


def test_a_failure_of_other_work_under_the_same_name_is_none(folder: OutputFolder):
    save_struct(folder.path("a", "failed.json"), msgspec.structs.replace(failure(A, permanent=True), key="other"))
    assert books(folder, ONE).collect_failed(ONE) == []


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path):
    (tmp_path / "out").write_text("a file, not a folder")
    facts = failed_job(ended={"exitCode": 1})
    ours = books(OutputFolder(tmp_path / "out"), ONE)
    assert len(ours.finalize_unit(ONE, derive_unit_status(facts), facts, NOW, 0).failed) == 1
