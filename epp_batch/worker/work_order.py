"""An order's tasks one after the other; the exit code that tells Kubernetes whether to try again."""

from __future__ import annotations

import threading
from pathlib import Path

from epp.clock import Clock
from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.output_folder import OutputFolder, TaskFailure
from epp_batch.spec import Task, WorkOrder
from epp_batch.worker import hardware, model_files, outputs
from epp_batch.worker.failures import Deadline, find_out_of_memory, raise_as_task_error
from epp_batch.worker.messages import ProgressSink, WorkerMessage
from epp_batch.worker.transcription_task import TranscriptionTask
from epp_batch.worker.whisper import LoadedWhisper

DEVICE_ERROR_SIGNS = ("cuda", "cublas", "cudnn", "library lib")
"""What errors of the device, its driver and its libraries speak of: not the weights' fault, and another node may do."""


class ModelCache:
    """The model that was loaded last: orders for the same one do not load it again."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[Path, str, int], LoadedWhisper] | None = None

    def get(self, task: Task, order: WorkOrder) -> LoadedWhisper:
        """WorkError where the weights are missing, damaged or too large."""
        source = task.recording.source
        with raise_as_task_error(TaskStage.LOAD, source):
            folder = model_files.find_model(task.model, order, source)
            wanted = (folder, order.options.compute_type, order.threads or hardware.count_usable_cores())
            if self._loaded is not None and self._loaded[0] == wanted:
                return self._loaded[1]
            self._loaded = None  # two large models may not fit at once
            whisper = _load_model(*wanted, source)
            self._loaded = (wanted, whisper)
            return whisper


def run_work_order(
    order: WorkOrder,
    *,
    clock: Clock,
    on_progress: ProgressSink,
    stop: threading.Event | None = None,
    shelf: ModelCache | None = None,
) -> int:
    """Does an order and says how each task goes; 0, or the exit code of the failure that decides about a retry.

    `stop` ends it at the next place where nothing is lost, with code 143: no further task begins, and the one that was
    under way goes on there next time.
    """
    stop = stop or threading.Event()
    shelf = shelf or ModelCache()
    failures = []
    for task in order.tasks:
        failure = _run_task(task, order, clock, on_progress, stop, shelf)
        if failure is not None:
            failures.append(failure)
        if stop.is_set() and task is not order.tasks[-1]:
            return FailureKind.STOPPED.exit_code
    return select_exit_code(failures)


def select_exit_code(failures: list[TaskFailure]) -> int:
    """Of the first failure that may pass, since a retry helps it and skips what is finished; else of the first."""
    passing = [failure for failure in failures if not failure.permanent]
    return next((failure.exit_code for failure in passing or failures), 0)


def _run_task(
    task: Task, order: WorkOrder, clock: Clock, say: ProgressSink, stop: threading.Event, shelf: ModelCache
) -> TaskFailure | None:  # fmt: skip
    leash = Deadline(clock, stop, task.recording.source, order.max_seconds)
    say(WorkerMessage(stem=task.stem, progress=0.0, of=task.recording.seconds))
    try:
        result = TranscriptionTask(task, order, lambda wanted: shelf.get(wanted, order), clock, leash, say).run()
    except TaskError as error:
        key = task.key(order.options)
        failure = outputs.write_failure(OutputFolder(order.output), task, error, key, clock.wall())
        say(WorkerMessage(stem=task.stem, failure=failure))
        return failure
    say(WorkerMessage(stem=task.stem, result=result))
    return None


def _load_model(folder: Path, compute: str, threads: int, source: str) -> LoadedWhisper:
    try:
        return LoadedWhisper(folder, compute, threads)
    except ValueError as error:  # a compute type that this device does not have
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder}: {error}") from error
    except RuntimeError as error:
        if find_out_of_memory(error) or any(sign in str(error).lower() for sign in DEVICE_ERROR_SIGNS):
            raise
        raise TaskError(FailureKind.MODEL, TaskStage.LOAD, source, f"{folder}: {error}") from error
