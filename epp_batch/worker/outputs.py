"""Writes a transcript's files and sidecars atomically, under every stem of the recording."""

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
from epp_batch.worker.formats import Transcript, render_transcript

LINK_UNSUPPORTED_ERRNOS = frozenset(
    {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)


def write_transcript(
    folder: OutputFolder, task: Task, transcript: Transcript, formats: Sequence[TranscriptFormat]
) -> dict[str, int]:
    """Writes the transcript's files; returns size in bytes by suffix. `write_result` then finishes the task."""
    files = render_transcript(transcript, formats)
    for suffix, data in files.items():
        write_atomically(folder.path(task.stem, suffix), data)
    return {suffix: len(data) for suffix, data in files.items()}


def write_result(folder: OutputFolder, task: Task, result: TranscriptionResult) -> None:
    """Writes `done.json`, which marks the task as finished, then links all files under the further stems."""
    save_struct(folder.path(task.stem, "done.json"), result)
    link_further_names(folder, task, result)


def remove_stale_temporaries(folder: OutputFolder, stem: str) -> None:
    """Removes temporary files of killed workers. The caller must hold the lock of the recording's partial file."""
    for suffix in (*FORMATS, "done.json"):
        path = folder.path(stem, suffix)
        for temporary in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
            temporary.unlink(missing_ok=True)


def link_further_names(folder: OutputFolder, task: Task, result: TranscriptionResult) -> None:
    """Provides the files under the recording's further stems: hard links, or copies if the file system has none.

    Idempotent: also called when a finished task has got a new stem. Removes failures of earlier attempts.
    """
    for stem in task.recording.stems[1:]:
        for suffix in (*result.files, "done.json"):
            _link_file(folder.path(task.stem, suffix), folder.path(stem, suffix))
        _remove_failure(folder, stem)
    _remove_failure(folder, task.stem)


def write_failure(folder: OutputFolder, task: Task, error: TaskError, key: str, at: float) -> TaskFailure:
    """Writes `<stem>.failed.json` for every stem, unless the worker was stopped; errors of writing are ignored."""
    failure = TaskFailure.from_error(error, key, at)
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
