"""A transcript's files, whole or not at all, under every name that the recording has."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from epp_batch.errors import FailureKind, TaskError
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct, write_atomically
from epp_batch.spec import FORMATS, Task, TranscriptFormat
from epp_batch.worker.failures import build_failure
from epp_batch.worker.formats import Transcript, render_transcript

LINK_UNSUPPORTED_ERRNOS = frozenset(
    {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)


def write_transcript(
    folder: OutputFolder, task: Task, transcript: Transcript, formats: Sequence[TranscriptFormat]
) -> dict[str, int]:
    """Writes the transcript in these formats; suffix -> bytes. Nothing counts as finished before `finish`."""
    files = render_transcript(transcript, formats)
    for suffix, data in files.items():
        write_atomically(folder.path(task.stem, suffix), data)
    return {suffix: len(data) for suffix, data in files.items()}


def write_result(folder: OutputFolder, task: Task, result: TranscriptionResult) -> None:
    """Writes `done.json`, which says that all is there, and gives the recording's further names the same files."""
    save_struct(folder.path(task.stem, "done.json"), result)
    link_further_names(folder, task, result)


def remove_stale_temporaries(folder: OutputFolder, stem: str) -> None:
    """Removes what workers left that were killed in the middle of a write; for whoever holds the recording."""
    for suffix in (*FORMATS, "done.json"):
        path = folder.path(stem, suffix)
        for litter in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
            litter.unlink(missing_ok=True)


def link_further_names(folder: OutputFolder, task: Task, result: TranscriptionResult) -> None:
    """The same files under the recording's further names: links, or copies where there are no links.

    Nothing is touched that is right already, so this may be called for a finished task whenever it has a new name.
    """
    for stem in task.recording.stems[1:]:
        for suffix in (*result.files, "done.json"):
            _link_file(folder.path(task.stem, suffix), folder.path(stem, suffix))
        _remove_failure(folder, stem)
    _remove_failure(folder, task.stem)


def write_failure(folder: OutputFolder, task: Task, error: TaskError, key: str, at: float) -> TaskFailure:
    """Writes `<stem>.failed.json` for every name, as far as the folder takes it; being stopped is no failure."""
    failure = build_failure(error, key, at)
    for stem in task.recording.stems if error.kind is not FailureKind.STOPPED else ():
        with contextlib.suppress(Exception):
            save_struct(folder.path(stem, "failed.json"), failure)
    return failure


def _link_file(original: Path, other: Path) -> None:
    if other.exists() and os.path.samestat(original.stat(), other.stat()):
        return
    temporary = other.with_name(f".{other.name}.{os.getpid()}.tmp")
    try:
        other.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        os.link(original, temporary)
    except OSError as error:
        if error.errno not in LINK_UNSUPPORTED_ERRNOS:
            raise
        data = original.read_bytes()
        if not other.exists() or other.read_bytes() != data:
            write_atomically(other, data)
        return
    temporary.replace(other)


def _remove_failure(folder: OutputFolder, stem: str) -> None:
    folder.path(stem, "failed.json").unlink(missing_ok=True)
