"""What each file is: hash of its bytes and length of its audio, read once as long as size and mtime stay."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage
from epp_batch.intake.probe import probe_duration
from epp_batch.output_folder import load_struct, save_struct


class FileDigest(msgspec.Struct, frozen=True):
    """One file as it was when it was read."""

    size: int
    mtime: int
    """Nanoseconds since 1970."""
    sha256: str
    seconds: float | None
    probed: bool


class DigestCache:
    """`digests.json`: by absolute path. A cache: losing it costs time, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cached = load_struct(path, dict[str, FileDigest]) or {}
        self._used: dict[str, FileDigest] = {}

    def digest_file(self, path: str, *, lengths: bool) -> FileDigest:
        """The file's hash, and its length if `lengths`; WorkError where it cannot be read or is no audio."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, _describe_os_error(error)) from error
        known = self._cached.get(path)
        if known is None or (known.size, known.mtime) != (status.st_size, status.st_mtime_ns):
            seconds = probe_duration(path) if lengths else None
            known = FileDigest(status.st_size, status.st_mtime_ns, hash_file(path), seconds, lengths)
        elif lengths and not known.probed:
            known = msgspec.structs.replace(known, seconds=probe_duration(path), probed=True)
        self._used[path] = known
        return known

    def save(self) -> None:
        """Keeps what was read for the next time; does nothing where the folder cannot be written."""
        if self._used != self._cached:
            with contextlib.suppress(FolderError, OSError):
                save_struct(self._path, self._cached | self._used)


def hash_file(path: str) -> str:
    """sha256 of the file's bytes, in hex; WorkError where it cannot be read or is empty."""
    try:
        with open(path, "rb") as file:
            value = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, path, "the file is empty")
            return value
    except OSError as error:
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, _describe_os_error(error)) from error


def _describe_os_error(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
