"""A worker that does what the test scripts: for each task of its work order, what a file beside the output says.

OUTPUT/<stem>.play: `done`, `exit N`, `fail KIND` (writes <stem>.failed.json and exits with the code of that
FailureKind), `hang`. It waits for the file. Each start adds a line to <stem>.starts; SIGTERM leaves <stem>.sigterm and
exit code 143.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from epp_batch.errors import FailureKind
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.spec import WORK_ORDER_VARIABLE, Task, WorkOrder

order = msgspec.json.decode(os.environ[WORK_ORDER_VARIABLE], type=WorkOrder)
folder = OutputFolder(order.output)
entries: list[dict[str, object]] = []


def exit_worker(code: int) -> None:
    """Exits, with a termination message as of a real worker if the test asks for one."""
    if folder.path("notes", "wanted").exists():
        Path(os.environ["TERMINATION_LOG"]).write_bytes(msgspec.json.encode({"tasks": entries}))
    sys.exit(code)


def record_sigterm(task: Task) -> None:
    folder.path(task.stem, "sigterm").touch()
    sys.exit(143)


def read_play(task: Task) -> list[str]:
    """Waits for the task's file and returns its words."""
    path = folder.path(task.stem, "play")
    while not path.exists():
        time.sleep(0.02)
    return path.read_text().split()


def fail(task: Task, kind: FailureKind) -> None:
    failure = TaskFailure(
        key=task.key(order.options),
        source=task.recording.source,
        stage="decode",
        kind=kind.name.lower(),
        message="as the test says",
        remedy=kind.remedy,
        permanent=kind.permanent,
        at=time.time(),
        exit_code=kind.exit_code,
    )
    folder.path(task.stem, "failed.json").write_bytes(msgspec.json.encode(failure))
    exit_worker(kind.exit_code)


def succeed(task: Task) -> None:
    result = TranscriptionResult(
        key=task.key(order.options),
        source=task.recording.source,
        sha256=task.recording.sha256,
        model=task.model,
        options=order.options,
        audio_seconds=task.recording.seconds or 0.0,
        finished=time.time(),
    )
    entries.append({"stem": task.stem, "key": result.key, "audio_seconds": result.audio_seconds})
    if not folder.path("notes", "wanted").exists():
        folder.path(task.stem, "done.json").write_bytes(msgspec.json.encode(result))


for task in order.tasks:
    signal.signal(signal.SIGTERM, lambda *_, task=task: record_sigterm(task))
    with folder.path(task.stem, "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    print(f"{task.stem} begins", flush=True)
    match read_play(task):
        case ["done"]:
            succeed(task)
        case ["exit", code]:
            exit_worker(int(code))
        case ["fail", kind]:
            fail(task, FailureKind[kind])
        case _:
            signal.pause()
exit_worker(0)
