"""Messages of a worker: one JSON object per line on stdout, and the pod's termination message of at most 4 kB."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from epp_batch.output_folder import TaskFailure, TranscriptionResult

MAX_TERMINATION_MESSAGE_BYTES = 4000
"""Kubernetes truncates a termination message at 4,096 bytes, which would break its JSON."""
MAX_FAILURE_TEXT = 200


class WorkerMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One update about one task; exactly one of `progress`, `result` and `failure` is set."""

    stem: str = ""
    progress: float | None = None
    """Audio seconds transcribed so far."""
    of: float | None = None
    """Total audio seconds; None if unknown before decoding."""
    result: TranscriptionResult | None = None
    failure: TaskFailure | None = None


ProgressSink = Callable[[WorkerMessage], None]


def encode_termination_message(messages: list[WorkerMessage]) -> bytes:
    """Results and failures as compact JSON. If they do not fit, the earliest are dropped and counted in `left_out`."""
    tasks = [_build_task_entry(message) for message in messages if message.result or message.failure]
    left_out = 0
    while True:
        body: dict[str, Any] = {"tasks": tasks[left_out:]}
        if left_out:
            body["left_out"] = left_out
        encoded = msgspec.json.encode(body)
        if len(encoded) <= MAX_TERMINATION_MESSAGE_BYTES or left_out == len(tasks):
            return encoded
        left_out += 1


def write_termination_message(messages: list[WorkerMessage]) -> None:
    """Writes the termination message to $TERMINATION_LOG, else to Kubernetes' default path if that exists."""
    path = os.environ.get("TERMINATION_LOG", "/dev/termination-log")
    if "TERMINATION_LOG" in os.environ or Path(path).exists():
        try:
            Path(path).write_bytes(encode_termination_message(messages))
        except OSError:
            return  # the sidecars in the output folder say the same


def _build_task_entry(message: WorkerMessage) -> dict[str, Any]:
    if message.result is not None:
        result = message.result
        return {
            "stem": message.stem,
            "key": result.key,
            "audio_seconds": round(result.audio_seconds, 3),
            "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
            "started": round(result.started, 3),
            "finished": round(result.finished, 3),
        }
    failure = message.failure
    assert failure is not None
    return {
        "stem": message.stem,
        "key": failure.key,
        "kind": failure.kind,
        "stage": failure.stage,
        "message": failure.message[:MAX_FAILURE_TEXT],
        "finished": round(failure.at, 3),
    }
