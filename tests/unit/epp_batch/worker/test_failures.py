"""Exceptions become kinds; a leash ends work that has gone on for too long."""

from __future__ import annotations

import errno
import threading

import pytest

from epp.clock import ManualClock
from epp_batch.errors import FolderError, Kind, Stage, WorkError
from epp_batch.worker.failures import Leash, at, in_words, kind_of, record


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Kind.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Kind.DISK_FULL),
        (OSError(errno.EFBIG, "File too large"), Kind.DISK_FULL),
        (FolderError("out/a.txt: Permission denied"), Kind.UNWRITABLE),
        (MemoryError(), Kind.MEMORY),
        (RuntimeError("CUDA failed with error out of memory"), Kind.MEMORY),
        (RuntimeError("std::bad_alloc"), Kind.MEMORY),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), Kind.MEMORY),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), Kind.INTERNAL),
        (KeyError("x"), Kind.INTERNAL),
    ],
)
def test_kinds(error, kind):
    assert kind_of(error, Stage.TRANSCRIBE) is kind


def test_the_cause_of_a_failed_import_may_be_memory():
    """As faster-whisper tells of an onnxruntime that could not be mapped."""
    error = RuntimeError("this requires the onnxruntime package")
    error.__cause__ = ImportError("libx.so: failed to map segment from shared object")
    assert kind_of(error, Stage.TRANSCRIBE) is Kind.MEMORY


def test_what_the_system_refuses_to_write_is_unwritable():
    error = OSError(errno.EROFS, "Read-only file system")
    assert kind_of(error, Stage.WRITE) is Kind.UNWRITABLE
    assert kind_of(error, Stage.DECODE) is Kind.INTERNAL


def test_a_stage_names_what_failed_in_it():
    with pytest.raises(WorkError) as caught, at(Stage.WRITE, "a.wav"):
        raise OSError(errno.ENOSPC, "No space left on device", "out/a.txt")
    assert str(caught.value) == (
        "a.wav: write: out/a.txt: No space left on device; free space on the output volume; what is finished stays"
    )


def test_what_was_classified_stays_as_it_was():
    with pytest.raises(WorkError) as caught, at(Stage.TRANSCRIBE, "a.wav"), at(Stage.DECODE, "a.wav"):
        raise WorkError(Kind.CORRUPT, Stage.DECODE, "a.wav", "no audio in it")
    assert caught.value.stage is Stage.DECODE


def test_a_defect_keeps_its_traceback_in_the_log(caplog):
    with pytest.raises(WorkError), at(Stage.TRANSCRIBE, "a.wav"):
        raise ZeroDivisionError("division by zero")
    assert "ZeroDivisionError" in caplog.text


def test_in_words():
    assert in_words(RuntimeError("\ntwo  lines\nand more")) == "RuntimeError: two lines"
    assert in_words(MemoryError()) == "MemoryError"
    assert in_words(FolderError("out: Not a directory", remedy="give another")) == "out: Not a directory"


def test_record():
    failure = record(WorkError(Kind.TIMEOUT, Stage.TRANSCRIBE, "a.wav", "not done after 5 s"), "key", 7.0)
    assert (failure.kind, failure.stage, failure.exit_code, failure.permanent) == ("timeout", "transcribe", 75, False)
    assert (failure.key, failure.at, failure.remedy) == ("key", 7.0, Kind.TIMEOUT.remedy)


def test_a_leash_holds_at_its_end():
    clock = ManualClock()
    leash = Leash(clock, threading.Event(), "a.wav", 5.0)
    clock.advance(4.9)
    leash.check(Stage.DECODE)
    clock.advance(0.1)
    with pytest.raises(WorkError, match="not done after 5 s") as caught:
        leash.check(Stage.DECODE)
    assert caught.value.kind is Kind.TIMEOUT


def test_a_stopped_leash_does_not_wait():
    stop = threading.Event()
    stop.set()
    with pytest.raises(WorkError) as caught:
        Leash(ManualClock(), stop, "a.wav").wait(1000.0, Stage.DOWNLOAD)
    assert caught.value.kind is Kind.STOPPED
