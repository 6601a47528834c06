"""An order's tasks one after the other; the exit code that tells Kubernetes whether to try again."""

from __future__ import annotations

import threading
from pathlib import Path

from epp.clock import Clock
from epp_batch.errors import Kind, Stage, WorkError
from epp_batch.output_folder import Failure, Folder
from epp_batch.spec import Order, Task
from epp_batch.worker import machine, models, outputs
from epp_batch.worker.failures import Leash, at, out_of_memory
from epp_batch.worker.lines import Line, Say
from epp_batch.worker.recording import Work
from epp_batch.worker.whisper import Whisper

DEVICE = ("cuda", "cublas", "cudnn", "library lib")
"""What errors of the device, its driver and its libraries speak of: not the weights' fault, and another node may do."""


class Shelf:
    """The model that was loaded last: orders for the same one do not load it again."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[Path, str, int], Whisper] | None = None

    def get(self, task: Task, order: Order) -> Whisper:
        """WorkError where the weights are missing, damaged or too large."""
        source = task.recording.source
        with at(Stage.LOAD, source):
            folder = models.find(task.model, order, source)
            wanted = (folder, order.options.compute_type, order.threads or machine.cores())
            if self._loaded is not None and self._loaded[0] == wanted:
                return self._loaded[1]
            self._loaded = None  # two large models may not fit at once
            whisper = _load(*wanted, source)
            self._loaded = (wanted, whisper)
            return whisper


def work(
    order: Order,
    *,
    clock: Clock,
    on_progress: Say,
    stop: threading.Event | None = None,
    shelf: Shelf | None = None,
) -> int:
    """Does an order and says how each task goes; 0, or the exit code of the failure that decides about a retry.

    `stop` ends it at the next place where nothing is lost, with code 143: no further task begins, and the one that was
    under way goes on there next time.
    """
    stop = stop or threading.Event()
    shelf = shelf or Shelf()
    failures = []
    for task in order.tasks:
        failure = _one(task, order, clock, on_progress, stop, shelf)
        if failure is not None:
            failures.append(failure)
        if stop.is_set() and task is not order.tasks[-1]:
            return Kind.STOPPED.code
    return exit_code(failures)


def exit_code(failures: list[Failure]) -> int:
    """Of the first failure that may pass, since a retry helps it and skips what is finished; else of the first."""
    passing = [failure for failure in failures if not failure.permanent]
    return next((failure.exit_code for failure in passing or failures), 0)


def _one(
    task: Task, order: Order, clock: Clock, say: Say, stop: threading.Event, shelf: Shelf
) -> Failure | None:  # fmt: skip
    leash = Leash(clock, stop, task.recording.source, order.max_seconds)
    say(Line(stem=task.stem, progress=0.0, of=task.recording.seconds))
    try:
        result = Work(task, order, lambda wanted: shelf.get(wanted, order), clock, leash, say).do()
    except WorkError as error:
        key = task.key(order.options)
        failure = outputs.note_failure(Folder(order.output), task, error, key, clock.wall())
        say(Line(stem=task.stem, failure=failure))
        return failure
    say(Line(stem=task.stem, result=result))
    return None


def _load(folder: Path, compute: str, threads: int, source: str) -> Whisper:
    try:
        return Whisper(folder, compute, threads)
    except ValueError as error:  # a compute type that this device does not have
        raise WorkError(Kind.MODEL, Stage.LOAD, source, f"{folder}: {error}") from error
    except RuntimeError as error:
        if out_of_memory(error) or any(sign in str(error).lower() for sign in DEVICE):
            raise
        raise WorkError(Kind.MODEL, Stage.LOAD, source, f"{folder}: {error}") from error
