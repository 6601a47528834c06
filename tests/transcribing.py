"""`epp-batch transcribe` and `epp-batch worker` as processes, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import wave
from pathlib import Path

import msgspec
import pytest

from epp_batch.spec import WORK_ORDER_VARIABLE, Recording, Task, TranscriptionOptions, WorkOrder

COMMAND = (sys.executable, "-m", "epp_batch")
PATIENCE = 100.0
FAST = ("--batch-size", 2, "--beam-size", 1, "--no-word-timestamps")


def join_wav_files(path, sources):
    """Writes the 16 kHz mono recordings one after the other, each followed by half a second of silence."""
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        for source in sources:
            with wave.open(str(source), "rb") as file:
                out.writeframes(file.readframes(file.getnframes()) + bytes(16_000))


def transcribe(*arguments):
    """Runs `epp-batch transcribe` to its end; the completed process."""
    return subprocess.run(
        (*COMMAND, "transcribe", *map(str, arguments)), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@contextlib.contextmanager
def running_command(*arguments, **other):
    """An `epp-batch` process within a `with` block; killed at its end."""
    process = subprocess.Popen(
        (*COMMAND, *map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **other
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition, what):
    """Polls until `condition` is true and returns its value; fails the test after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {PATIENCE:g} s")


def list_children(pid):
    """Process ids of the children of a process's main thread."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_partial_batch(folder, stem):
    """Whether the partial file of a recording has at least one batch; a finished recording has no partial file."""
    path = folder.path(stem, "partial.jsonl")
    return path.exists() and b'"batch"' in path.read_bytes()


def build_order_environment(folder, path, **other):
    """Environment of a worker whose work order has one task, `path`, with `folder` as its output."""
    options = TranscriptionOptions(batch_size=2, beam_size=1, word_timestamps=False)
    task = Task(recording=Recording(source=str(path), stems=(path.stem,)), model="tiny.en")
    order = WorkOrder(run="r", unit="u", output=str(folder.root), options=options, tasks=(task,), threads=1, **other)
    return {
        **os.environ,
        WORK_ORDER_VARIABLE: msgspec.json.encode(order).decode(),
        "TERMINATION_LOG": f"{folder.root}.log",
    }


def parse_lines(text):
    """The values of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]
