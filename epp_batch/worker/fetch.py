"""Provides a recording as a local file: its path, or a temporary download of its URL."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.spec import Recording, is_url
from epp_batch.worker.deadline import Deadline
from epp_batch.worker.failures import DISK_FULL_ERRNOS

MAX_TRIES = 3
FIRST_RETRY_SECONDS = 1.0
"""Delay before the second try; doubles with each further one."""
READ_TIMEOUT_SECONDS = 30.0
"""Timeout of a read from the server."""
CHUNK_BYTES = 1 << 20
PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 451})
"""HTTP statuses that a retry does not change."""


@contextlib.contextmanager
def open_local_file(recording: Recording, deadline: Deadline) -> Iterator[Path]:
    """The recording's local path; a downloaded file is removed afterwards. Raises TaskError (MISSING, DOWNLOAD)."""
    if not is_url(recording.source):
        yield Path(recording.source)
        return
    with tempfile.TemporaryDirectory(prefix="epp-batch-") as folder:
        path = Path(folder) / "recording"
        _download_with_retries(recording.source, path, deadline)
        yield path


def verify_digest(path: Path, recording: Recording) -> str:
    """The file's SHA-256 in hex; raises TaskError (CORRUPT) if the content is not what was submitted.

    The digest of a URL's text, which stands for a URL that was not read at submission, is accepted.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    of_url_text = hashlib.sha256(recording.source.encode()).hexdigest()
    if recording.sha256 not in ("", digest, of_url_text):
        message = f"changed since it was submitted (sha256 {digest[:12]}, not {recording.sha256[:12]})"
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, recording.source, message)
    return digest


def _download_with_retries(url: str, path: Path, deadline: Deadline) -> None:
    pause = FIRST_RETRY_SECONDS
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            _download_once(url, path, deadline)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in PERMANENT_STATUSES:
                raise TaskError(
                    FailureKind.MISSING, TaskStage.DOWNLOAD, url, f"the server answers HTTP {error.code}"
                ) from error
            problem = f"the server answers HTTP {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in DISK_FULL_ERRNOS:
                raise
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if not tries_left:
            raise TaskError(FailureKind.DOWNLOAD, TaskStage.DOWNLOAD, url, f"{problem} (tried {MAX_TRIES} times)")
        deadline.wait(pause, TaskStage.DOWNLOAD)
        pause *= 2


def _download_once(url: str, path: Path, deadline: Deadline) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "epp-batch"})
    with urllib.request.urlopen(request, timeout=READ_TIMEOUT_SECONDS) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(CHUNK_BYTES):
            deadline.check(TaskStage.DOWNLOAD)
            file.write(chunk)
            received += len(chunk)
    if length is not None and received != int(length):
        raise http.client.HTTPException(f"the server sent {received} of {length} bytes")
