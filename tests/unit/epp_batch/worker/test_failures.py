"""Classification of exceptions."""

from __future__ import annotations

import errno

import pytest

from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage
from epp_batch.worker.failures import classify_error, describe_error, raise_as_task_error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), FailureKind.DISK_FULL),
        (OSError(errno.EFBIG, "File too large"), FailureKind.DISK_FULL),
        (FolderError("out/a.txt: Permission denied"), FailureKind.UNWRITABLE),
        (MemoryError(), FailureKind.MEMORY),
        (RuntimeError("CUDA failed with error out of memory"), FailureKind.MEMORY),
        (RuntimeError("std::bad_alloc"), FailureKind.MEMORY),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), FailureKind.MEMORY),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), FailureKind.INTERNAL),
        (KeyError("x"), FailureKind.INTERNAL),
    ],
)
def test_classify_error(error, kind):
    assert classify_error(error, TaskStage.TRANSCRIBE) is kind


def test_out_of_memory_is_found_in_the_causes():
    """faster-whisper reports an onnxruntime library that cannot be mapped like this."""
    error = RuntimeError("this requires the onnxruntime package")
    error.__cause__ = ImportError("libx.so: failed to map segment from shared object")
    assert classify_error(error, TaskStage.TRANSCRIBE) is FailureKind.MEMORY


def test_os_error_while_writing_is_unwritable():
    error = OSError(errno.EROFS, "Read-only file system")
    assert classify_error(error, TaskStage.WRITE) is FailureKind.UNWRITABLE
    assert classify_error(error, TaskStage.DECODE) is FailureKind.INTERNAL


def test_exception_becomes_a_task_error_of_the_stage():
    with pytest.raises(TaskError) as caught, raise_as_task_error(TaskStage.WRITE, "a.wav"):
        raise OSError(errno.ENOSPC, "No space left on device", "out/a.txt")
    assert str(caught.value) == f"a.wav: write: out/a.txt: No space left on device; {FailureKind.DISK_FULL.remedy}"


def test_task_error_passes_unchanged():
    with (
        pytest.raises(TaskError) as caught,
        raise_as_task_error(TaskStage.TRANSCRIBE, "a.wav"),
        raise_as_task_error(TaskStage.DECODE, "a.wav"),
    ):
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, "a.wav", "no audio in it")
    assert caught.value.stage is TaskStage.DECODE


def test_internal_error_is_logged_with_traceback(caplog):
    with pytest.raises(TaskError), raise_as_task_error(TaskStage.TRANSCRIBE, "a.wav"):
        raise ZeroDivisionError("division by zero")
    assert "ZeroDivisionError" in caplog.text


def test_describe_error():
    assert describe_error(RuntimeError("\ntwo  lines\nand more")) == "RuntimeError: two lines"
    assert describe_error(MemoryError()) == "MemoryError"
    assert describe_error(FolderError("out;1: Not a directory", remedy="give another")) == "out;1: Not a directory"
