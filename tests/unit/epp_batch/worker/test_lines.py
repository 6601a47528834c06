"""What a worker says, and the note that fits where Kubernetes looks for it."""

from __future__ import annotations

import json

import msgspec
import pytest

from epp_batch.output_folder import Failure, Result
from epp_batch.spec import Options
from epp_batch.worker.lines import NOTE_BYTES, Line, leave_note, note


def ended(stem):
    result = Result(
        key="0123456789ab", source="a.wav", sha256="", model="tiny.en", options=Options(), audio_seconds=12.34567,
        started=1.5, finished=2.5, timings={"transcribe": 0.123456},
    )  # fmt: skip
    return Line(stem=stem, result=result)


def failed(stem, message="not decodable"):
    failure = Failure(
        key="ab", source="b.wav", stage="decode", kind="corrupt", message=message, remedy="", permanent=True, at=3.0
    )
    return Line(stem=stem, failure=failure)


def test_a_line_says_only_what_it_is_about():
    assert json.loads(msgspec.json.encode(Line(stem="a", progress=1.0, of=2.0))) == {
        "stem": "a", "progress": 1.0, "of": 2.0,
    }  # fmt: skip


def test_note():
    assert json.loads(note([Line(stem="a", progress=1.0), ended("a"), failed("b", "x" * 1000)])) == {
        "tasks": [
            {
                "stem": "a", "key": "0123456789ab", "audio_seconds": 12.346, "timings": {"transcribe": 0.123},
                "started": 1.5, "finished": 2.5,
            },
            {"stem": "b", "key": "ab", "kind": "corrupt", "stage": "decode", "message": "x" * 200, "finished": 3.0},
        ]
    }  # fmt: skip


def test_a_long_note_counts_what_it_leaves_out():
    text = note([ended(f"calls/{number:04}") for number in range(200)])
    assert len(text) <= NOTE_BYTES
    document = json.loads(text)
    assert document["tasks"][-1]["stem"] == "calls/0199"
    assert document["left_out"] + len(document["tasks"]) == 200


@pytest.mark.parametrize("stem", ["s" * 5000, "ü" * 3000])
def test_even_one_task_may_not_fit(stem):
    assert json.loads(note([ended(stem)])) == {"tasks": [], "left_out": 1}


def test_the_note_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "log"))
    leave_note([ended("a")])
    assert json.loads((tmp_path / "log").read_bytes())["tasks"][0]["stem"] == "a"


def test_a_note_that_cannot_be_left_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "missing" / "log"))
    leave_note([ended("a")])
    assert not (tmp_path / "missing").exists()
