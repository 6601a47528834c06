"""What each file is: hash of its bytes and length of its audio, read once as long as size and mtime stay."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from epp_batch.errors import FolderError, Kind, Stage, WorkError
from epp_batch.intake.media import probe
from epp_batch.output_folder import load, save


class Known(msgspec.Struct, frozen=True):
    """One file as it was when it was read."""

    size: int
    mtime: int
    """Nanoseconds since 1970."""
    sha256: str
    seconds: float | None
    probed: bool


class Digests:
    """`digests.json`: by absolute path. A cache: losing it costs time, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = load(path, dict[str, Known]) or {}
        self._now: dict[str, Known] = {}

    def read(self, path: str, *, lengths: bool) -> Known:
        """The file's hash, and its length if `lengths`; WorkError where it cannot be read or is no audio."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise WorkError(Kind.MISSING, Stage.PROBE, path, _why(error)) from error
        known = self._before.get(path)
        if known is None or (known.size, known.mtime) != (status.st_size, status.st_mtime_ns):
            seconds = probe(path) if lengths else None
            known = Known(status.st_size, status.st_mtime_ns, digest(path), seconds, lengths)
        elif lengths and not known.probed:
            known = msgspec.structs.replace(known, seconds=probe(path), probed=True)
        self._now[path] = known
        return known

    def save(self) -> None:
        """Keeps what was read for the next time; does nothing where the folder cannot be written."""
        if self._now != self._before:
            with contextlib.suppress(FolderError, OSError):
                save(self._path, self._before | self._now)


def digest(path: str) -> str:
    """sha256 of the file's bytes, in hex; WorkError where it cannot be read or is empty."""
    try:
        with open(path, "rb") as file:
            value = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                raise WorkError(Kind.CORRUPT, Stage.PROBE, path, "the file is empty")
            return value
    except OSError as error:
        raise WorkError(Kind.MISSING, Stage.PROBE, path, _why(error)) from error


def _why(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
