"""Lengths of recordings, by the containers' own words where they have any."""

from __future__ import annotations

import errno
import math
import os
from typing import Any
from urllib.parse import urlsplit

from epp_batch.errors import InputError, Kind, Stage, WorkError
from epp_batch.intake.sources import is_url

TIMEOUT = 15.0
"""Seconds that a server may take to open, and to give each piece."""


def probe(source: str, silent: set[str] | None = None) -> float | None:
    """Seconds of the first audio stream; None where only decoding or a reachable server would tell.

    Servers that do not answer are put into `silent`, and are not asked again. Raises WorkError for what is no audio, is
    empty, or is not there.
    """
    remote = is_url(source)
    if not remote:
        _check(source)
    elif silent is not None and urlsplit(source).netloc in silent:
        return None
    av = _library()
    try:
        with av.open(source, timeout=TIMEOUT if remote else None, **lenient(av)) as container:
            if not container.streams.audio:
                raise WorkError(Kind.CORRUPT, Stage.PROBE, source, "no audio stream in it")
            return _length(container, deep=not remote)
    except av.error.InvalidDataError as error:
        raise WorkError(Kind.CORRUPT, Stage.PROBE, source, "no audio that can be read") from error
    except (av.error.FFmpegError, OSError) as error:
        if not remote:
            raise WorkError(Kind.CORRUPT, Stage.PROBE, source, str(error.strerror or error)) from error
        if isinstance(error, av.error.HTTPNotFoundError):
            raise WorkError(Kind.MISSING, Stage.PROBE, source, "the server does not have it") from error
        if silent is not None:
            silent.add(urlsplit(source).netloc)
        return None  # it may well be reachable from where the workers run


def _check(path: str) -> None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        what = "no such file" if error.errno == errno.ENOENT else os.strerror(error.errno or 0)
        raise WorkError(Kind.MISSING, Stage.PROBE, path, what) from error
    if empty:
        raise WorkError(Kind.CORRUPT, Stage.PROBE, path, "the file is empty")


def _length(container: Any, *, deep: bool) -> float | None:
    """The stream's own length, the container's, or the end of the last packet (`deep`)."""
    stream = container.streams.audio[0]
    length = math.nan
    if stream.duration and stream.time_base:
        length = float(stream.duration * stream.time_base)
    elif container.duration:
        length = container.duration / 1e6
    elif deep:
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None
        )
        length = max(ends, default=math.nan)
    return round(length, 3) if math.isfinite(length) and length > 0 else None


def lenient(av: Any) -> dict[str, Any]:
    """Keywords that make `av.open` take titles in any encoding; PyAV 19 knows no others."""
    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("PyAV is not installed", remedy="pip install 'endpoint-picker[batch]'") from error
    av.logging.set_level(av.logging.PANIC)
    return av
