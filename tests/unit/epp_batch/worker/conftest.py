"""Work orders for real Whisper (tiny.en) on speech synthesized by espeak-ng."""

from __future__ import annotations

import re

import pytest

from epp.clock import SystemClock
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Recording, Task, TranscriptionOptions, WorkOrder
from epp_batch.worker.work_order import ModelCache, run_work_order
from tests.speech import synthesize_wav

TEXT = "The meeting begins at nine o'clock on Monday morning. Please bring your own coffee and a good story."
MODEL = "tiny.en"


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return synthesize_wav(TEXT, tmp_path_factory.mktemp("speech") / "meeting.wav")


@pytest.fixture(scope="module")
def models():
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


class MessageRecorder:
    """Collects the messages of a worker."""

    def __init__(self):
        self.all = []

    def __call__(self, message):
        self.all.append(message)

    @property
    def results(self):
        return [message.result for message in self.all if message.result is not None]

    @property
    def failures(self):
        return [message.failure for message in self.all if message.failure is not None]


def run(wanted, models, **other):
    messages = MessageRecorder()
    return run_work_order(wanted, clock=SystemClock(), on_progress=messages, models=models, **other), messages


def words(text):
    return re.findall("[a-z]+", text.lower())


def word_recall(folder, stem="meeting"):
    """Share of the words of TEXT that are in the transcript."""
    found = words(folder.path(stem, "txt").read_text())
    return sum(word in found for word in words(TEXT)) / len(words(TEXT))
