"""Runs the tasks of a work order one after the other, and chooses the exit code that decides about a retry."""

from __future__ import annotations

import threading
from pathlib import Path

from epp.clock import Clock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.output_folder import OutputFolder, TaskFailure
from epp_batch.spec import Task, WorkOrder
from epp_batch.worker import hardware, model_files, outputs
from epp_batch.worker.deadline import Deadline
from epp_batch.worker.failures import find_out_of_memory, raise_as_task_error
from epp_batch.worker.messages import ProgressSink, WorkerMessage
from epp_batch.worker.transcription_task import TranscriptionTask
from epp_batch.worker.whisper import LoadedWhisper

DEVICE_ERROR_SIGNS = ("cuda", "cublas", "cudnn", "library lib")
"""Parts of error messages about the device, its driver and libraries. Such a failure is not the model's: another node
may succeed."""


class ModelCache:
    """Keeps the most recently loaded model, so that further tasks and orders with the same model reuse it."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[Path, str, int], LoadedWhisper] | None = None

    def get(self, task: Task, order: WorkOrder) -> LoadedWhisper:
        """The loaded model of a task. Raises TaskError if its files are missing or damaged, or memory is short."""
        source = task.recording.source
        with raise_as_task_error(TaskStage.LOAD, source):
            folder = model_files.find_model(task.model, order, source)
            key = (folder, order.options.compute_type, order.threads or hardware.count_usable_cores())
            if self._loaded is not None and self._loaded[0] == key:
                return self._loaded[1]
            self._loaded = None  # frees the memory first: two large models may not fit
            whisper = _load_model(*key, source)
            self._loaded = (key, whisper)
            return whisper


def run_work_order(
    order: WorkOrder,
    *,
    clock: Clock,
    on_progress: ProgressSink,
    stop: threading.Event | None = None,
    models: ModelCache | None = None,
) -> int:
    """Runs all tasks of an order, reports each through `on_progress`, and returns the exit code (0: all finished).

    `stop`, which another thread may set, ends the order with code 143 at the next safe point: no further task begins,
    and the current one can be resumed from its partial file.
    """
    stop = stop or threading.Event()
    models = models or ModelCache()
    failures = []
    for task in order.tasks:
        failure = _run_task(task, order, clock, on_progress, stop, models)
        if failure is not None:
            failures.append(failure)
        if stop.is_set() and task is not order.tasks[-1]:
            return FailureKind.STOPPED.exit_code
    return select_exit_code(failures)


def select_exit_code(failures: list[TaskFailure]) -> int:
    """The exit code of the first transient failure, else of the first failure, else 0.

    A transient failure takes precedence: a retry of the Job can fix it, and skips the tasks that are finished.
    """
    transient = [failure for failure in failures if not failure.permanent]
    return next((failure.exit_code for failure in transient or failures), 0)


def _run_task(
    task: Task, order: WorkOrder, clock: Clock, on_progress: ProgressSink, stop: threading.Event, models: ModelCache
) -> TaskFailure | None:
    deadline = Deadline(clock, stop, task.recording.source, order.max_seconds)
    on_progress(WorkerMessage(stem=task.stem, progress=0.0, of=task.recording.seconds))
    try:
        result = TranscriptionTask(
            task, order, lambda task: models.get(task, order), clock, deadline, on_progress
        ).run()
    except TaskError as error:
        key = task.key(order.options)
        failure = outputs.write_failure(OutputFolder(order.output), task, error, key, clock.wall())
        on_progress(WorkerMessage(stem=task.stem, failure=failure))
        return failure
    on_progress(WorkerMessage(stem=task.stem, result=result))
    return None


def _load_model(folder: Path, compute_type: str, threads: int, source: str) -> LoadedWhisper:
    try:
        return LoadedWhisper(folder, compute_type, threads)
    except ValueError as error:  # CTranslate2: a compute type that the device does not support
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder}: {error}") from error
    except RuntimeError as error:
        if find_out_of_memory(error) or any(part in str(error).lower() for part in DEVICE_ERROR_SIGNS):
            raise
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder}: {error}") from error
