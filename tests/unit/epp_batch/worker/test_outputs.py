"""Transcript files and failures under every stem of a recording."""

from __future__ import annotations

import os

import msgspec
import pytest

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.output_folder import OutputFolder, TranscriptionResult
from epp_batch.spec import Recording, Task, TranscriptionOptions
from epp_batch.worker import outputs
from epp_batch.worker.formats import Transcript

TASK = Task(recording=Recording(source="a.wav", stems=("a", "sub/b"), sha256="00"), model="tiny.en")
OPTIONS = TranscriptionOptions(formats=("txt", "json"))


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path)


def write_outputs(folder, text):
    transcript = Transcript(text=text, segments=[], language="en", duration=1.0)
    files = outputs.write_transcript(folder, TASK, transcript, OPTIONS.formats)
    result = TranscriptionResult(
        key=TASK.key(OPTIONS), source="a.wav", sha256="00", model="tiny.en", options=OPTIONS, audio_seconds=1.0,
        files=files,
    )  # fmt: skip
    outputs.write_result(folder, TASK, result)
    return result


def test_every_stem_has_every_file(folder):
    result = write_outputs(folder, "hello")
    assert folder.find_finished_result(TASK, OPTIONS) == result
    assert folder.load_result("sub/b") == result
    for suffix in ("txt", "json", "done.json"):
        assert os.path.samefile(folder.path("a", suffix), folder.path("sub/b", suffix))
    assert not list(folder.root.rglob("*.tmp"))


def test_new_transcript_replaces_the_links(folder):
    write_outputs(folder, "hello")
    write_outputs(folder, "other")
    assert b"other" in folder.path("sub/b", "json").read_bytes()


def test_stem_added_later_gets_the_files(folder):
    result = write_outputs(folder, "hello")
    stems = ("a", "sub/b", "c")
    later = Task(recording=msgspec.structs.replace(TASK.recording, stems=stems), model="tiny.en")
    outputs.link_further_names(folder, later, result)
    assert folder.path("c", "json").read_bytes() == folder.path("a", "json").read_bytes()


def test_failure_is_written_for_every_stem_and_removed_by_success(folder):
    error = TaskError(FailureKind.CORRUPT, TaskStage.DECODE, "a.wav", "no audio in it")
    failure = outputs.write_failure(folder, TASK, error, "key", 5.0)
    assert folder.load_failure("a") == folder.load_failure("sub/b") == failure
    write_outputs(folder, "hello")
    assert folder.load_failure("a") is None
    assert folder.load_failure("sub/b") is None


def test_stop_writes_no_failure(folder):
    failure = outputs.write_failure(
        folder, TASK, TaskError(FailureKind.STOPPED, TaskStage.TRANSCRIBE, "a.wav", "stopped"), "k", 1.0
    )
    assert failure.exit_code == 143
    assert folder.load_failure("a") is None


def test_failure_that_cannot_be_written_is_returned(tmp_path):
    (tmp_path / "file").write_text("")
    error = TaskError(FailureKind.UNWRITABLE, TaskStage.WRITE, "a.wav", "Not a directory")
    assert outputs.write_failure(OutputFolder(tmp_path / "file"), TASK, error, "key", 1.0).kind == "unwritable"
