"""The output folder: its file layout, reading it, and writing files atomically.

OUTPUT/<stem>.txt .srt .vtt .tsv .json     the transcript
OUTPUT/<stem>.done.json                    TranscriptionResult; written last: it marks the task as finished
OUTPUT/<stem>.partial.jsonl                segments transcribed so far; a restarted worker resumes after them
OUTPUT/<stem>.failed.json                  TaskFailure of the last attempt; a later success removes it
OUTPUT/<stem>.summary.md, .summary.json    the summary and its metadata
OUTPUT/.epp-batch/run.json, events.jsonl   the Run and its journal of events
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from epp_batch.errors import FailureKind, FolderError, TaskError
from epp_batch.spec import Run, Task, TranscriptionOptions

T = TypeVar("T")


class TranscriptionResult(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of one finished transcript; the content of `<stem>.done.json`. Times are in seconds."""

    key: str
    """`Task.key` of the content, model and options that were transcribed."""
    source: str
    sha256: str
    model: str
    options: TranscriptionOptions
    audio_seconds: float
    language: str = ""
    segments: int = 0
    words: int = 0
    files: dict[str, int] = {}
    """Size in bytes by suffix of each file written."""
    started: float = 0.0
    """Unix time; start of the attempt that finished the transcript."""
    finished: float = 0.0
    timings: dict[str, float] = {}
    """Seconds of download, load, decode, transcribe and write, summed over all attempts."""
    resumed_at: float = 0.0
    """Audio second at which the last attempt resumed; 0 if one attempt did it all."""
    attempts: int = 1
    rtf: float = 0.0
    """Real-time factor: transcribe seconds / audio seconds."""
    host: str = ""
    devices: str = ""
    """Value of NVIDIA_VISIBLE_DEVICES, or `cpu`."""
    worker: str = ""
    """Versions of the worker and its libraries, device and compute type."""
    peak_rss: int = 0
    """Peak resident memory of the worker in bytes."""


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed task; the content of `<stem>.failed.json` and the last message of a worker about the task."""

    key: str
    source: str
    stage: str
    kind: str
    """Name of an epp_batch.errors.FailureKind in lower case."""
    message: str
    remedy: str
    permanent: bool
    at: float = 0.0
    exit_code: int = 1

    @classmethod
    def from_error(cls, error: TaskError, key: str = "", at: float = 0.0) -> TaskFailure:
        """The failure as it is written to disk; `key` is empty before a model is chosen, `at` is Unix time."""
        return cls.from_kind(error.kind, error.stage.value, error.source, error.message, key, at)

    @classmethod
    def from_kind(
        cls, kind: FailureKind, stage: str, source: str, message: str, key: str = "", at: float = 0.0
    ) -> TaskFailure:
        """A failure with the remedy, permanence and exit code of its kind.

        `stage` is a TaskStage's value, or what a worker of another version reports.
        """
        return cls(
            key=key,
            source=source,
            stage=stage,
            kind=kind.name.lower(),
            message=message,
            remedy=kind.remedy,
            permanent=kind.permanent,
            at=at,
            exit_code=kind.exit_code,
        )


class OutputFolder:
    """Paths and files of one output folder. A missing or truncated JSON file reads as None."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.run_file = self.root / ".epp-batch" / "run.json"
        self.events_file = self.root / ".epp-batch" / "events.jsonl"

    def path(self, stem: str, suffix: str) -> Path:
        """Path of one output file; `suffix` without its leading dot: `txt`, `done.json`, `partial.jsonl` …"""
        return self.root / f"{stem}.{suffix}"

    def load_result(self, stem: str) -> TranscriptionResult | None:
        return load_struct(self.path(stem, "done.json"), TranscriptionResult)

    def load_failure(self, stem: str) -> TaskFailure | None:
        return load_struct(self.path(stem, "failed.json"), TaskFailure)

    def find_finished_result(self, task: Task, options: TranscriptionOptions) -> TranscriptionResult | None:
        """The task's result if its key matches these options and its files have their recorded sizes; else None."""
        result = self.load_result(task.stem)
        if result is None or result.key != task.key(options):
            return None
        for suffix, size in result.files.items():
            path = self.path(task.stem, suffix)
            if not path.exists() or path.stat().st_size != size:
                return None
        return result

    def load_run(self) -> Run:
        """The run of this folder; raises FolderError if there is none."""
        run = load_struct(self.run_file, Run)
        if run is None:
            raise FolderError(f"{self.root}: no run here", remedy="submit or transcribe into this folder first")
        return run

    def save_run(self, run: Run) -> None:
        save_struct(self.run_file, run)


def load_struct(path: Path, kind: type[T]) -> T | None:
    """Decodes a struct from its JSON file; None if the file is missing or does not decode."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def save_struct(path: Path, value: Any) -> None:
    """Writes a struct as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file atomically: to a temporary file in the same folder, fsync, then rename.

    Raises FolderError if the folder cannot be written. OSError with ENOSPC or EDQUOT passes through: a full disk is
    transient, a wrong folder is not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FolderError(f"{path}: {error.strerror}", remedy="give a writable output folder") from error
