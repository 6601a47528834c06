"""The partial file `<stem>.partial.jsonl`: segments transcribed so far, from which the next attempt resumes.

The first line is a PlanRecord; each further line is an AttemptRecord or a BatchRecord. An incomplete last line of a
killed worker is cut off; a file for other content, model or options is discarded.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from epp.clock import Clock
from epp_batch.errors import FolderError
from epp_batch.worker.failures import DISK_FULL_ERRNOS
from epp_batch.worker.segments import Segment
from epp_batch.worker.windows import SpeechWindow

SYNC_SECONDS = 5.0
"""Interval of fsync: a node that loses power loses this much work; a killed process loses only its current batch."""


class PlanRecord(msgspec.Struct, frozen=True, tag="plan"):
    """First line: the task's key and the windows to transcribe."""

    key: str
    windows: list[SpeechWindow] | None = None
    """Windows of detected speech; None in sequential transcription."""
    spent: float = 0.0
    """Seconds that speech detection took."""


class AttemptRecord(msgspec.Struct, frozen=True, tag="attempt"):
    """An attempt has begun."""

    started: float
    resumed_at: float = 0.0
    sha256: str = ""
    timings: dict[str, float] = {}
    """Seconds of download, load and decode."""


class BatchRecord(msgspec.Struct, frozen=True, tag="batch"):
    """A batch has been transcribed."""

    at: float
    """Audio seconds transcribed so far, including this batch."""
    spent: float
    """Seconds that the batch took."""
    segments: list[Segment]
    windows: int = 0
    """Number of the plan's windows transcribed so far."""
    language: str = ""


PartialRecord = PlanRecord | AttemptRecord | BatchRecord
_decoder = msgspec.json.Decoder(PartialRecord)
_encoder = msgspec.json.Encoder()


class PartialProgress:
    """The state that the records of a partial file add up to."""

    def __init__(self, records: list[PartialRecord]) -> None:
        self.plan = next((record for record in records if isinstance(record, PlanRecord)), None)
        self.segments: list[Segment] = []
        self.attempts = 0
        self.audio_seconds = 0.0
        self.windows_done = 0
        self.language = ""
        self.timings: dict[str, float] = {}
        for record in records:
            self.add(record)

    def add(self, record: PartialRecord) -> None:
        """Applies a record; numbers its segments, whose records all have id 0."""
        if isinstance(record, AttemptRecord):
            self.attempts += 1
            for name, seconds in record.timings.items():
                self._add_timing(name, seconds)
        elif isinstance(record, BatchRecord):
            self.audio_seconds, self.windows_done = record.at, record.windows
            self.language = record.language or self.language
            self.segments += [
                msgspec.structs.replace(segment, id=number)
                for number, segment in enumerate(record.segments, len(self.segments))
            ]
            self._add_timing("transcribe", record.spent)
        else:
            self._add_timing("transcribe", record.spent)

    def _add_timing(self, name: str, seconds: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + seconds


class PartialFile:
    """The open, locked partial file of one task: the records of earlier attempts, and appending to them."""

    def __init__(self, path: Path, key: str, clock: Clock) -> None:
        """Raises BlockingIOError while another worker holds the lock, FolderError if the file cannot be written."""
        self.path = path
        self._clock = clock
        self._synced = clock.now()
        self._file = _open_for_append(path)
        try:
            _lock_exclusively(self._file, path)
            records, length = _read_records(path)
            progress = PartialProgress(records)
            if progress.plan is None or progress.plan.key != key:
                progress, length = PartialProgress([]), 0
            self._file.truncate(length)
        except BaseException:
            self._file.close()
            raise
        self.progress = progress

    def append(self, record: PartialRecord) -> None:
        """Appends a record; it is fsynced within SYNC_SECONDS of further appends.

        Raises OSError if the disk is full.
        """
        self._file.write(_encoder.encode(record) + b"\n")
        self._file.flush()
        self.progress.add(record)
        if isinstance(record, PlanRecord):
            self.progress.plan = record
        if self._clock.now() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Calls fsync; ignores file systems that do not support it."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._synced = self._clock.now()

    def close(self) -> None:
        """Syncs and closes the file, which releases the lock. Idempotent."""
        if self._file.closed:
            return
        self.sync()
        with contextlib.suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """Deletes the file, when the transcript is written or the attempt has left nothing worth keeping."""
        # Before the lock is released: a worker that locks this inode next sees that the path no longer leads to it.
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()


def _open_for_append(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise
        remedy = "give a writable output folder"
        raise FolderError(f"{path}: {error.strerror}", remedy=remedy) from error


def _lock_exclusively(file: IO[bytes], path: Path) -> None:
    """Takes an exclusive flock, if the file system supports it; raises BlockingIOError if another worker has it.

    The previous holder may have deleted the file between our open and our lock: then the lock is on a dead inode.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
    try:
        is_current = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        is_current = False
    if not is_current:
        raise BlockingIOError(f"{path} was replaced")


def _read_records(path: Path) -> tuple[list[PartialRecord], int]:
    """The records up to the first incomplete or undecodable line, and their length in bytes."""
    records: list[PartialRecord] = []
    length = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            records.append(_decoder.decode(line))
        except msgspec.DecodeError:
            break
        length += len(line)
    return records, length
