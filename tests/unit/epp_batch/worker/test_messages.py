"""Messages of a worker, and the termination message that fits Kubernetes' limit."""

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


def result_message(stem):
    result = TranscriptionResult(
        key="0123456789ab", source="a.wav", sha256="", model="tiny.en", options=TranscriptionOptions(),
        audio_seconds=12.34567, started=1.5, finished=2.5, timings={"transcribe": 0.123456},
    )  # fmt: skip
    return WorkerMessage(stem=stem, result=result)


def failure_message(stem, message="not decodable"):
    failure = TaskFailure(
        key="ab", source="b.wav", stage="decode", kind="corrupt", message=message, remedy="", permanent=True, at=3.0
    )
    return WorkerMessage(stem=stem, failure=failure)


def test_message_encodes_only_its_set_fields():
    assert json.loads(msgspec.json.encode(WorkerMessage(stem="a", progress=1.0, of=2.0))) == {
        "stem": "a", "progress": 1.0, "of": 2.0,
    }  # fmt: skip


def test_termination_message():
    messages = [WorkerMessage(stem="a", progress=1.0), result_message("a"), failure_message("b", "x" * 1000)]
    assert json.loads(encode_termination_message(messages)) == {
        "tasks": [
            {
                "stem": "a", "key": "0123456789ab", "audio_seconds": 12.346, "timings": {"transcribe": 0.123},
                "started": 1.5, "finished": 2.5,
            },
            {"stem": "b", "key": "ab", "kind": "corrupt", "stage": "decode", "message": "x" * 200, "finished": 3.0},
        ]
    }  # fmt: skip


def test_long_termination_message_counts_dropped_tasks():
    text = encode_termination_message([result_message(f"calls/{number:04}") for number in range(200)])
    assert len(text) <= MAX_TERMINATION_MESSAGE_BYTES
    document = json.loads(text)
    assert document["tasks"][-1]["stem"] == "calls/0199"
    assert document["left_out"] + len(document["tasks"]) == 200


@pytest.mark.parametrize("stem", ["s" * 5000, "ü" * 3000])
def test_termination_message_without_room_for_one_task(stem):
    assert json.loads(encode_termination_message([result_message(stem)])) == {"tasks": [], "left_out": 1}


def test_termination_message_path_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "log"))
    write_termination_message([result_message("a")])
    assert json.loads((tmp_path / "log").read_bytes())["tasks"][0]["stem"] == "a"


def test_unwritable_termination_message_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "missing" / "log"))
    write_termination_message([result_message("a")])
    assert not (tmp_path / "missing").exists()
