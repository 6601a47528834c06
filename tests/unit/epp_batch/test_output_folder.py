"""The output folder: finished results, damaged sidecars, atomic writes."""

from __future__ import annotations

import errno
import os

import pytest

from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct, write_atomically
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions

TASK = Task(recording=Recording(source="call.mp3", stems=("call",), sha256="ab"), model="tiny.en")


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path / "out")


def finish(folder, **other):
    """Writes the transcript and sidecar of a finished task."""
    write_atomically(folder.path("call", "txt"), b"hello\n")
    known = {"key": TASK.key(TranscriptionOptions()), "files": {"txt": 6}} | other
    result = TranscriptionResult(
        source="call.mp3", sha256="ab", model="tiny.en", options=TranscriptionOptions(), audio_seconds=1.0, **known
    )
    save_struct(folder.path("call", "done.json"), result)
    return result


def test_finished_result_is_found(folder):
    assert folder.find_finished_result(TASK, TranscriptionOptions()) is None
    assert finish(folder) == folder.find_finished_result(TASK, TranscriptionOptions())


def test_result_with_other_options_is_not_finished(folder):
    finish(folder)
    assert folder.find_finished_result(TASK, TranscriptionOptions(language="de")) is None


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"hell")])
def test_missing_or_truncated_transcript_is_not_finished(folder, damage):
    finish(folder)
    damage(folder.path("call", "txt"))
    assert folder.find_finished_result(TASK, TranscriptionOptions()) is None


def test_truncated_sidecar_reads_as_none(folder):
    finish(folder)
    sidecar = folder.path("call", "done.json")
    sidecar.write_bytes(sidecar.read_bytes()[:-20])
    assert folder.load_result("call") is None


def test_failure_round_trip(folder):
    failure = TaskFailure(
        key="k", source="s", stage="decode", kind="corrupt", message="m", remedy="r", permanent=True, exit_code=64
    )
    save_struct(folder.path("deep/call", "failed.json"), failure)
    assert folder.load_failure("deep/call") == failure


def test_failure_from_error():
    error = TaskError(FailureKind.TIMEOUT, TaskStage.TRANSCRIBE, "a.wav", "not finished after 5 s")
    failure = TaskFailure.from_error(error, "key", 7.0)
    assert (failure.kind, failure.stage, failure.exit_code, failure.permanent) == ("timeout", "transcribe", 75, False)
    assert (failure.key, failure.at, failure.remedy) == ("key", 7.0, FailureKind.TIMEOUT.remedy)
    assert (failure.source, failure.message) == ("a.wav", "not finished after 5 s")


def test_folder_without_a_run_raises_folder_error(folder):
    with pytest.raises(FolderError, match="no run here; submit or transcribe"):
        folder.load_run()
    run = Run(name="r", output=str(folder.root), options=TranscriptionOptions(), units=())
    folder.save_run(run)
    assert folder.load_run() == run


def test_unwritable_path_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(FolderError, match=r"out/call.txt: .*; give a writable output folder"):
        write_atomically(tmp_path / "out" / "call.txt", b"x")


def test_full_disk_raises_os_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "call.txt").write_text("before")
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "call.txt", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["call.txt"]
    assert (tmp_path / "call.txt").read_text() == "before"
