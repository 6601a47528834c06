"""Exceptions of libraries and of the machine, told apart once: every failure leaves this package as a WorkError."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator

from epp.clock import Clock
from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage
from epp_batch.output_folder import TaskFailure

log = logging.getLogger("epp_batch.worker")

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
OUT_OF_MEMORY_SIGNS = (
    "out of memory",
    "bad_alloc",
    "cannot allocate memory",
    "alloc_failed",
    "failed to allocate",
    "failed to map segment",
)
"""What CUDA, cuBLAS, C++ and the C library say when memory is short; CTranslate2 passes it on as a RuntimeError."""


@contextlib.contextmanager
def raise_as_task_error(stage: TaskStage, source: str) -> Iterator[None]:
    """Whatever fails inside fails as a WorkError of this stage and source."""
    try:
        yield
    except TaskError:
        raise
    except Exception as error:
        kind = classify_error(error, stage)
        if kind is FailureKind.INTERNAL:
            log.exception("%s: %s", source, stage.value)
        raise TaskError(kind, stage, source, describe_error(find_out_of_memory(error) or error)) from error


def classify_error(error: BaseException, stage: TaskStage) -> FailureKind:
    """The kind of a failure that nobody has classified before."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return FailureKind.DISK_FULL
    if find_out_of_memory(error):
        return FailureKind.MEMORY
    if isinstance(error, FolderError) or (isinstance(error, OSError) and stage is TaskStage.WRITE):
        return FailureKind.UNWRITABLE
    return FailureKind.INTERNAL


def find_out_of_memory(error: BaseException | None) -> BaseException | None:
    """The exception that says that memory was short, on the device or here; it may lie a few causes back."""
    if error is None or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return error
    if isinstance(error, RuntimeError | ImportError) and any(
        sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS
    ):
        return error
    return find_out_of_memory(error.__cause__ or error.__context__)


def describe_error(error: BaseException) -> str:
    """One line; the name of the exception where its text alone would say nothing."""
    if isinstance(error, FolderError):
        return str(error).split(";")[0]
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = next((" ".join(line.split()) for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def build_failure(error: TaskError, key: str, at: float) -> TaskFailure:
    """The failure as it is written down; `at` in wall seconds."""
    return TaskFailure(
        key=key,
        source=error.source,
        stage=error.stage.value,
        kind=error.kind.name.lower(),
        message=error.message,
        remedy=error.kind.remedy,
        permanent=error.kind.permanent,
        at=at,
        exit_code=error.kind.exit_code,
    )


class Deadline:
    """Ends work that was told to stop or took too long, at the next place where that loses nothing."""

    def __init__(self, clock: Clock, stop: threading.Event, source: str = "", max_seconds: float | None = None) -> None:
        self._clock = clock
        self._stop = stop
        self._source = source
        self._limit = max_seconds
        self._end = None if max_seconds is None else clock.now() + max_seconds

    @property
    def expired(self) -> bool:
        """Whether `check` would raise: what is done should be written down now."""
        return self._stop.is_set() or (self._end is not None and self._clock.now() >= self._end)

    def check(self, stage: TaskStage) -> None:
        """Raises WorkError when the order was stopped or the recording's time is over."""
        if self._stop.is_set():
            raise TaskError(FailureKind.STOPPED, stage, self._source, "stopped")
        if self.expired:
            raise TaskError(FailureKind.TIMEOUT, stage, self._source, f"not done after {self._limit:g} s")

    def wait(self, seconds: float, stage: TaskStage) -> None:
        """Waits, but no longer than `check` allows."""
        if self._end is not None:
            seconds = min(seconds, max(0.0, self._end - self._clock.now()))
        self._stop.wait(seconds)
        self.check(stage)
