"""What a worker says, and the note that fits where Kubernetes looks for it."""

from __future__ import annotations

import json

import msgspec
import pytest

from epp_batch.output_folder import TaskFailure, TranscriptionResult
from epp_batch.spec import TranscriptionOptions
from epp_batch.worker.messages import (
    MAX_TERMINATION_MESSAGE_BYTES,
    WorkerMessage,
    encode_termination_message,
    write_termination_message,
)


def ended(stem):
    result = TranscriptionResult(
        key="0123456789ab", source="a.wav", sha256="", model="tiny.en", options=TranscriptionOptions(),
        audio_seconds=12.34567, started=1.5, finished=2.5, timings={"transcribe": 0.123456},
    )  # fmt: skip
    return WorkerMessage(stem=stem, result=result)


def failed(stem, message="not decodable"):
    failure = TaskFailure(
        key="ab", source="b.wav", stage="decode", kind="corrupt", message=message, remedy="", permanent=True, at=3.0
    )
    return WorkerMessage(stem=stem, failure=failure)


def test_a_line_says_only_what_it_is_about():
    assert json.loads(msgspec.json.encode(WorkerMessage(stem="a", progress=1.0, of=2.0))) == {
        "stem": "a", "progress": 1.0, "of": 2.0,
    }  # fmt: skip


def test_note():
    messages = [WorkerMessage(stem="a", progress=1.0), ended("a"), failed("b", "x" * 1000)]
    assert json.loads(encode_termination_message(messages)) == {
        "tasks": [
            {
                "stem": "a", "key": "0123456789ab", "audio_seconds": 12.346, "timings": {"transcribe": 0.123},
                "started": 1.5, "finished": 2.5,
            },
            {"stem": "b", "key": "ab", "kind": "corrupt", "stage": "decode", "message": "x" * 200, "finished": 3.0},
        ]
    }  # fmt: skip


def test_a_long_note_counts_what_it_leaves_out():
    text = encode_termination_message([ended(f"calls/{number:04}") for number in range(200)])
    assert len(text) <= MAX_TERMINATION_MESSAGE_BYTES
    document = json.loads(text)
    assert document["tasks"][-1]["stem"] == "calls/0199"
    assert document["left_out"] + len(document["tasks"]) == 200


@pytest.mark.parametrize("stem", ["s" * 5000, "ü" * 3000])
def test_even_one_task_may_not_fit(stem):
    assert json.loads(encode_termination_message([ended(stem)])) == {"tasks": [], "left_out": 1}


def test_the_note_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "log"))
    write_termination_message([ended("a")])
    assert json.loads((tmp_path / "log").read_bytes())["tasks"][0]["stem"] == "a"


def test_a_note_that_cannot_be_left_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "missing" / "log"))
    write_termination_message([ended("a")])
    assert not (tmp_path / "missing").exists()
