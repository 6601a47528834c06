"""Cache of content hash and audio duration by file, valid while the file's size and modification time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from epp_batch.errors import FailureKind, FolderError, TaskError, TaskStage
from epp_batch.intake.probe import describe_os_error, probe_duration
from epp_batch.output_folder import load_struct, save_struct


class FileDigest(msgspec.Struct, frozen=True):
    """Hash and duration of one file, with the size and modification time that they belong to."""

    size: int
    mtime: int
    """Unix time in nanoseconds."""
    sha256: str
    seconds: float | None
    """Duration of the audio; None if unknown or not probed."""
    probed: bool
    """Whether the duration was probed."""


class DigestCache:
    """The content of `digests.json`, keyed by absolute path. Losing it costs only the time to read the files again.

    `digest_file` may be called from several threads, each path by one thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cached = load_struct(path, dict[str, FileDigest]) or {}
        self._used: dict[str, FileDigest] = {}

    def digest_file(self, path: str, *, with_duration: bool) -> FileDigest:
        """The file's hash, and its duration if wanted.

        Raises TaskError if it cannot be read, is empty or is not audio.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, describe_os_error(error)) from error
        known = self._cached.get(path)
        if known is None or (known.size, known.mtime) != (status.st_size, status.st_mtime_ns):
            seconds = probe_duration(path) if with_duration else None
            known = FileDigest(status.st_size, status.st_mtime_ns, hash_file(path), seconds, with_duration)
        elif with_duration and not known.probed:
            known = msgspec.structs.replace(known, seconds=probe_duration(path), probed=True)
        self._used[path] = known
        return known

    def save(self) -> None:
        """Writes the cache if it has changed; ignores a folder that cannot be written."""
        if self._used != self._cached:
            with contextlib.suppress(FolderError, OSError):
                save_struct(self._path, self._cached | self._used)


def hash_file(path: str) -> str:
    """SHA-256 of the file's content in hex. Raises TaskError if it cannot be read or is empty."""
    try:
        with open(path, "rb") as file:
            value = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, path, "the file is empty")
            return value
    except OSError as error:
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, describe_os_error(error)) from error
