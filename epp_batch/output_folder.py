"""The output folder: what lies where, and how a file appears there whole or not at all.

OUTPUT/<stem>.txt .srt .vtt .tsv .json     the transcript
OUTPUT/<stem>.done.json                    Result; written last, so that it says: finished
OUTPUT/<stem>.partial.jsonl                segments so far; a worker that comes again goes on after them
OUTPUT/<stem>.failed.json                  Failure of the last attempt; gone when a later one succeeds
OUTPUT/<stem>.summary.md, .summary.json    the summary and how it was made
OUTPUT/.epp-batch/run.json, events.jsonl   the Run and its timeline
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from epp_batch.errors import FolderError
from epp_batch.spec import Run, Task, TranscriptionOptions

T = TypeVar("T")


class TranscriptionResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one transcript came about; `<stem>.done.json`. All times in seconds."""

    key: str
    """Task.key: other content, model or options need other work."""
    source: str
    sha256: str
    model: str
    options: TranscriptionOptions
    audio_seconds: float
    language: str = ""
    segments: int = 0
    words: int = 0
    files: dict[str, int] = {}
    """Suffix of each file written -> bytes."""
    started: float = 0.0
    """Wall, since 1970; of the attempt that finished it."""
    finished: float = 0.0
    timings: dict[str, float] = {}
    """download, load, decode, transcribe, write; of all attempts together."""
    resumed_at: float = 0.0
    """Audio second where the last attempt went on; 0 when one attempt did it all."""
    attempts: int = 1
    rtf: float = 0.0
    """transcribe / audio_seconds."""
    host: str = ""
    devices: str = ""
    """NVIDIA_VISIBLE_DEVICES, or cpu."""
    worker: str = ""
    """Versions of the worker and its library."""
    peak_rss: int = 0
    """Bytes."""


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one task did not end well; `<stem>.failed.json` and the last line of a worker."""

    key: str
    source: str
    stage: str
    kind: str
    """Name of an epp_batch.errors.Kind, lower case."""
    message: str
    remedy: str
    permanent: bool
    at: float = 0.0
    exit_code: int = 1


class OutputFolder:
    """Paths under one output folder. Reading never fails on a file that is missing or torn; it is then not there."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.run_file = self.root / ".epp-batch" / "run.json"
        self.events_file = self.root / ".epp-batch" / "events.jsonl"

    def path(self, stem: str, suffix: str) -> Path:
        """`suffix` without its first dot: `txt`, `done.json`, `partial.jsonl` …"""
        return self.root / f"{stem}.{suffix}"

    def load_result(self, stem: str) -> TranscriptionResult | None:
        return load_struct(self.path(stem, "done.json"), TranscriptionResult)

    def load_failure(self, stem: str) -> TaskFailure | None:
        return load_struct(self.path(stem, "failed.json"), TaskFailure)

    def find_finished_result(self, task: Task, options: TranscriptionOptions) -> TranscriptionResult | None:
        """The task's result if it is done with these very options and all its files are still there, whole."""
        result = self.load_result(task.stem)
        if result is None or result.key != task.key(options):
            return None
        for suffix, size in result.files.items():
            path = self.path(task.stem, suffix)
            if not path.exists() or path.stat().st_size != size:
                return None
        return result

    def load_run(self) -> Run:
        """The run of this folder; FolderError when there is none."""
        run = load_struct(self.run_file, Run)
        if run is None:
            raise FolderError(f"{self.root}: no run here", remedy="submit or transcribe into this folder first")
        return run

    def save_run(self, run: Run) -> None:
        save_struct(self.run_file, run)


def load_struct(path: Path, kind: type[T]) -> T | None:
    """A struct from its JSON file; None when it is missing or is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def save_struct(path: Path, value: Any) -> None:
    """A struct as indented JSON, atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or none of it: a temporary one beside it, flushed to the disk, then renamed.

    Raises FolderError where the folder cannot be written; OSError with ENOSPC or EDQUOT passes through, since a full
    disk is not a wrong folder.
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
        raise FolderError(f"{path}: {error.strerror}", remedy="give an output folder that can be written") from error
