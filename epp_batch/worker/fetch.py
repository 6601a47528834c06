"""A recording's bytes as a local file: where they are, or fetched by http(s)."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import Recording
from epp_batch.worker.failures import DISK_FULL_ERRNOS, Deadline

MAX_TRIES = 3
FIRST_RETRY_SECONDS = 1.0
"""Seconds before the second try; doubles."""
READ_TIMEOUT_SECONDS = 30.0
"""Seconds without a byte after which a server counts as gone."""
CHUNK_BYTES = 1 << 20
PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Answers that will not change by asking again."""


@contextlib.contextmanager
def open_local_file(recording: Recording, leash: Deadline) -> Iterator[Path]:
    """The recording as a file. A fetched one is gone afterwards."""
    if not is_url(recording.source):
        yield Path(recording.source)
        return
    with tempfile.TemporaryDirectory(prefix="epp-batch-") as folder:
        path = Path(folder) / "recording"
        _download_with_retries(recording.source, path, leash)
        yield path


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def verify_digest(path: Path, recording: Recording) -> str:
    """The digest of the file; WorkError when these are not the bytes that were submitted, whose transcript it would
    pass for."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    unread = hashlib.sha256(recording.source.encode()).hexdigest()
    if recording.sha256 not in ("", digest, unread):
        message = f"changed since it was submitted (sha256 {digest[:12]}, not {recording.sha256[:12]})"
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, recording.source, message)
    return digest


def _download_with_retries(url: str, path: Path, leash: Deadline) -> None:
    pause = FIRST_RETRY_SECONDS
    for left in reversed(range(MAX_TRIES)):
        try:
            _download_once(url, path, leash)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in PERMANENT_STATUSES:
                raise TaskError(
                    FailureKind.MISSING, TaskStage.DOWNLOAD, url, f"the server answers {error.code}"
                ) from error
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in DISK_FULL_ERRNOS:
                raise
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if not left:
            raise TaskError(FailureKind.DOWNLOAD, TaskStage.DOWNLOAD, url, f"{problem}, {MAX_TRIES} times")
        leash.wait(pause, TaskStage.DOWNLOAD)
        pause *= 2


def _download_once(url: str, path: Path, leash: Deadline) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "epp-batch"})
    with urllib.request.urlopen(request, timeout=READ_TIMEOUT_SECONDS) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        got = _copy_body(answer, file, leash)
    if length is not None and got != int(length):
        raise http.client.HTTPException(f"it sent {got} of {length} bytes")


def _copy_body(answer: http.client.HTTPResponse, file: IO[bytes], leash: Deadline) -> int:
    got = 0
    while piece := answer.read(CHUNK_BYTES):
        leash.check(TaskStage.DOWNLOAD)
        file.write(piece)
        got += len(piece)
    return got
