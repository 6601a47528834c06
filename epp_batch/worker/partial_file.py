"""`<stem>.partial.jsonl`: what an attempt has, so that the next one goes on after it.

The first line says what the work is; each further line is an attempt that began or a batch that ended. A line that a
killed worker tore is left out, and so is a file for other content, model or options.
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
"""How much of the work a node that loses its power may lose; a killed process loses the batch under way only."""


class PlanRecord(msgspec.Struct, frozen=True, tag="plan"):
    """The first line."""

    key: str
    windows: list[SpeechWindow] | None = None
    """Detected speech; None in sequence."""
    spent: float = 0.0
    """Wall seconds of the detection."""


class AttemptRecord(msgspec.Struct, frozen=True, tag="attempt"):
    """A worker began."""

    started: float
    resumed_at: float = 0.0
    sha256: str = ""
    timings: dict[str, float] = {}
    """download, load and decode, in seconds."""


class BatchRecord(msgspec.Struct, frozen=True, tag="batch"):
    """Some more is transcribed."""

    at: float
    """Audio seconds that are done."""
    spent: float
    """Wall seconds that it took."""
    segments: list[Segment]
    windows: int = 0
    """How many of the plan's windows are done."""
    language: str = ""


PartialRecord = PlanRecord | AttemptRecord | BatchRecord
_decoder = msgspec.json.Decoder(PartialRecord)
_encoder = msgspec.json.Encoder()


class PartialProgress:
    """All that the file says."""

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
    """The open file: one writer at a time, and what it said when it was opened."""

    def __init__(self, path: Path, key: str, clock: Clock) -> None:
        """Raises BlockingIOError while another worker has it, FolderError where it cannot be written."""
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
        """Written when this returns; on the disk a few seconds later at most. OSError when the disk is full."""
        self._file.write(_encoder.encode(record) + b"\n")
        self._file.flush()
        self.progress.add(record)
        if isinstance(record, PlanRecord):
            self.progress.plan = record
        if self._clock.now() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._synced = self._clock.now()

    def close(self) -> None:
        """What is written is on the disk when this returns; closing again does nothing."""
        if self._file.closed:
            return
        self.sync()
        with contextlib.suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """The transcript is there."""
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
        remedy = "give an output folder that can be written"
        raise FolderError(f"{path}: {error.strerror}", remedy=remedy) from error


def _lock_exclusively(file: IO[bytes], path: Path) -> None:
    """One worker a recording, where the file system knows locks. The one before may just have removed the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
    try:
        same = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        same = False
    if not same:
        raise BlockingIOError(f"{path} was replaced")


def _read_records(path: Path) -> tuple[list[PartialRecord], int]:
    """All records up to the first line that is torn or is none, and how many bytes they take."""
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
