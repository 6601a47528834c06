"""Classifies exceptions of libraries and of the operating system as TaskErrors."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator

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
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = next((" ".join(line.split()) for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
