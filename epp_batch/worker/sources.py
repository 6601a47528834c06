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

from epp_batch.errors import Kind, Stage, WorkError
from epp_batch.spec import Recording
from epp_batch.worker.failures import FULL, Leash

TRIES = 3
PAUSE = 1.0
"""Seconds before the second try; doubles."""
SILENCE = 30.0
"""Seconds without a byte after which a server counts as gone."""
PIECE = 1 << 20
REFUSED = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Answers that will not change by asking again."""


@contextlib.contextmanager
def local(recording: Recording, leash: Leash) -> Iterator[Path]:
    """The recording as a file. A fetched one is gone afterwards."""
    if not is_url(recording.source):
        yield Path(recording.source)
        return
    with tempfile.TemporaryDirectory(prefix="epp-batch-") as folder:
        path = Path(folder) / "recording"
        _download(recording.source, path, leash)
        yield path


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def verify(path: Path, recording: Recording) -> str:
    """The digest of the file; WorkError when these are not the bytes that were submitted, whose transcript it would
    pass for."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    unread = hashlib.sha256(recording.source.encode()).hexdigest()
    if recording.sha256 not in ("", digest, unread):
        message = f"changed since it was submitted (sha256 {digest[:12]}, not {recording.sha256[:12]})"
        raise WorkError(Kind.CORRUPT, Stage.PROBE, recording.source, message)
    return digest


def _download(url: str, path: Path, leash: Leash) -> None:
    pause = PAUSE
    for left in reversed(range(TRIES)):
        try:
            _fetch(url, path, leash)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in REFUSED:
                raise WorkError(Kind.MISSING, Stage.DOWNLOAD, url, f"the server answers {error.code}") from error
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if not left:
            raise WorkError(Kind.DOWNLOAD, Stage.DOWNLOAD, url, f"{problem}, {TRIES} times")
        leash.wait(pause, Stage.DOWNLOAD)
        pause *= 2


def _fetch(url: str, path: Path, leash: Leash) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "epp-batch"})
    with urllib.request.urlopen(request, timeout=SILENCE) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        got = _copy(answer, file, leash)
    if length is not None and got != int(length):
        raise http.client.HTTPException(f"it sent {got} of {length} bytes")


def _copy(answer: http.client.HTTPResponse, file: IO[bytes], leash: Leash) -> int:
    got = 0
    while piece := answer.read(PIECE):
        leash.check(Stage.DOWNLOAD)
        file.write(piece)
        got += len(piece)
    return got
