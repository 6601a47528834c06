"""A transcript's files, whole or not at all, under every name that the recording has."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from epp_batch.errors import Kind, WorkError
from epp_batch.output_folder import Failure, Folder, Result, save, write
from epp_batch.spec import FORMATS, Format, Task
from epp_batch.worker.failures import record
from epp_batch.worker.formats import Transcript, render

NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def publish(folder: Folder, task: Task, transcript: Transcript, formats: Sequence[Format]) -> dict[str, int]:
    """Writes the transcript in these formats; suffix -> bytes. Nothing counts as finished before `finish`."""
    files = render(transcript, formats)
    for suffix, data in files.items():
        write(folder.path(task.stem, suffix), data)
    return {suffix: len(data) for suffix, data in files.items()}


def finish(folder: Folder, task: Task, result: Result) -> None:
    """Writes `done.json`, which says that all is there, and gives the recording's further names the same files."""
    save(folder.path(task.stem, "done.json"), result)
    spread(folder, task, result)


def sweep(folder: Folder, stem: str) -> None:
    """Removes what workers left that were killed in the middle of a write; for whoever holds the recording."""
    for suffix in (*FORMATS, "done.json"):
        path = folder.path(stem, suffix)
        for litter in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
            litter.unlink(missing_ok=True)


def spread(folder: Folder, task: Task, result: Result) -> None:
    """The same files under the recording's further names: links, or copies where there are no links.

    Nothing is touched that is right already, so this may be called for a finished task whenever it has a new name.
    """
    for stem in task.recording.stems[1:]:
        for suffix in (*result.files, "done.json"):
            _link(folder.path(task.stem, suffix), folder.path(stem, suffix))
        _forget_failure(folder, stem)
    _forget_failure(folder, task.stem)


def note_failure(folder: Folder, task: Task, error: WorkError, key: str, at: float) -> Failure:
    """Writes `<stem>.failed.json` for every name, as far as the folder takes it; being stopped is no failure."""
    failure = record(error, key, at)
    for stem in task.recording.stems if error.kind is not Kind.STOPPED else ():
        with contextlib.suppress(Exception):
            save(folder.path(stem, "failed.json"), failure)
    return failure


def _link(original: Path, other: Path) -> None:
    if other.exists() and os.path.samestat(original.stat(), other.stat()):
        return
    temporary = other.with_name(f".{other.name}.{os.getpid()}.tmp")
    try:
        other.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.link(original, temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        data = original.read_bytes()
        if not other.exists() or other.read_bytes() != data:
            write(other, data)
        return
    temporary.replace(other)


def _forget_failure(folder: Folder, stem: str) -> None:
    folder.path(stem, "failed.json").unlink(missing_ok=True)
