"""What a worker says: one JSON object a line on its standard output, and a note of at most 4 kB when it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from epp_batch.output_folder import TaskFailure, TranscriptionResult

MAX_TERMINATION_MESSAGE_BYTES = 4000
"""Kubernetes cuts a termination message at 4,096 bytes, which would break its JSON."""
MAX_FAILURE_TEXT = 200


class WorkerMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to one task; exactly one of progress, result and failure is set."""

    stem: str = ""
    progress: float | None = None
    """Audio seconds that are transcribed."""
    of: float | None = None
    """Audio seconds there are; None before the recording is decoded."""
    result: TranscriptionResult | None = None
    failure: TaskFailure | None = None


ProgressSink = Callable[[WorkerMessage], None]


def encode_termination_message(lines: list[WorkerMessage]) -> bytes:
    """The ends of all tasks as compact JSON; what does not fit is counted, earliest first."""
    tasks = [_build_task_entry(line) for line in lines if line.result or line.failure]
    left_out = 0
    while True:
        body: dict[str, Any] = {"tasks": tasks[left_out:]}
        if left_out:
            body["left_out"] = left_out
        encoded = msgspec.json.encode(body)
        if len(encoded) <= MAX_TERMINATION_MESSAGE_BYTES or left_out == len(tasks):
            return encoded
        left_out += 1


def write_termination_message(lines: list[WorkerMessage]) -> None:
    """Writes the note to $TERMINATION_LOG, or where Kubernetes looks for it if that is there."""
    place = os.environ.get("TERMINATION_LOG", "/dev/termination-log")
    if "TERMINATION_LOG" in os.environ or Path(place).exists():
        try:
            Path(place).write_bytes(encode_termination_message(lines))
        except OSError:
            return  # the same stands in the output folder


def _build_task_entry(line: WorkerMessage) -> dict[str, Any]:
    if line.result is not None:
        result = line.result
        return {
            "stem": line.stem,
            "key": result.key,
            "audio_seconds": round(result.audio_seconds, 3),
            "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
            "started": round(result.started, 3),
            "finished": round(result.finished, 3),
        }
    failure = line.failure
    assert failure is not None
    return {
        "stem": line.stem,
        "key": failure.key,
        "kind": failure.kind,
        "stage": failure.stage,
        "message": failure.message[:MAX_FAILURE_TEXT],
        "finished": round(failure.at, 3),
    }
