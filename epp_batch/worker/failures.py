"""Classifies exceptions of libraries and of the operating system as TaskErrors, and enforces deadlines."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator

from epp.clock import Clock
from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage

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
"""Parts of out-of-memory messages of CUDA, cuBLAS, C++ and the C library, which CTranslate2 raises as RuntimeError."""


@contextlib.contextmanager
def raise_as_task_error(stage: TaskStage, source: str) -> Iterator[None]:
    """Turns any exception of the block into a TaskError of this stage and source; a TaskError passes unchanged."""
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
    """The failure kind of an exception that is not a TaskError."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return FailureKind.DISK_FULL
    if find_out_of_memory(error):
        return FailureKind.MEMORY
    if isinstance(error, FolderError) or (isinstance(error, OSError) and stage is TaskStage.WRITE):
        return FailureKind.UNWRITABLE
    return FailureKind.INTERNAL


def find_out_of_memory(error: BaseException | None) -> BaseException | None:
    """The out-of-memory exception (of device or host) in the chain of causes; None if there is none."""
    if error is None or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return error
    if isinstance(error, RuntimeError | ImportError) and any(
        part in str(error).lower() for part in OUT_OF_MEMORY_SIGNS
    ):
        return error
    return find_out_of_memory(error.__cause__ or error.__context__)


def describe_error(error: BaseException) -> str:
    """A one-line description; with the exception's class unless it is an OSError or FolderError."""
    if isinstance(error, FolderError):
        return str(error).split(";")[0]
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = next((" ".join(line.split()) for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Deadline:
    """Ends a task at the next safe point after a stop request or after its time limit. Monotonic clock, in seconds."""

    def __init__(self, clock: Clock, stop: threading.Event, source: str = "", max_seconds: float | None = None) -> None:
        self._clock = clock
        self._stop = stop
        self._source = source
        self._limit = max_seconds
        self._end = None if max_seconds is None else clock.now() + max_seconds

    @property
    def expired(self) -> bool:
        """Whether `check` would raise: finished segments should be written first."""
        return self._stop.is_set() or (self._end is not None and self._clock.now() >= self._end)

    def check(self, stage: TaskStage) -> None:
        """Raises TaskError: STOPPED after a stop request, TIMEOUT after the time limit."""
        if self._stop.is_set():
            raise TaskError(FailureKind.STOPPED, stage, self._source, "stopped")
        if self.expired:
            raise TaskError(
                FailureKind.TIMEOUT, stage, self._source, f"not finished after {self._limit:g} s (--max-seconds)"
            )

    def wait(self, seconds: float, stage: TaskStage) -> None:
        """Waits; raises like `check`, as soon as it would raise."""
        if self._end is not None:
            seconds = min(seconds, max(0.0, self._end - self._clock.now()))
        self._stop.wait(seconds)
        self.check(stage)
