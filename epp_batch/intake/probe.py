"""Lengths of recordings, by the containers' own words where they have any."""

from __future__ import annotations

import errno
import math
import os
from typing import Any
from urllib.parse import urlsplit

from epp_batch.errors import FailureKind, InputError, TaskError, TaskStage
from epp_batch.intake.sources import is_url

SERVER_TIMEOUT_SECONDS = 15.0
"""Seconds that a server may take to open, and to give each piece."""


def probe_duration(source: str, silent: set[str] | None = None) -> float | None:
    """Seconds of the first audio stream; None where only decoding or a reachable server would tell.

    Servers that do not answer are put into `silent`, and are not asked again. Raises WorkError for what is no audio, is
    empty, or is not there.
    """
    remote = is_url(source)
    if not remote:
        _require_content(source)
    elif silent is not None and urlsplit(source).netloc in silent:
        return None
    av = _import_av()
    try:
        with av.open(
            source, timeout=SERVER_TIMEOUT_SECONDS if remote else None, **lenient_open_options(av)
        ) as container:
            if not container.streams.audio:
                raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, "no audio stream in it")
            return _read_duration(container, deep=not remote)
    except av.error.InvalidDataError as error:
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, "no audio that can be read") from error
    except (av.error.FFmpegError, OSError) as error:
        if not remote:
            raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, str(error.strerror or error)) from error
        if isinstance(error, av.error.HTTPNotFoundError):
            raise TaskError(FailureKind.MISSING, TaskStage.PROBE, source, "the server does not have it") from error
        if silent is not None:
            silent.add(urlsplit(source).netloc)
        return None  # it may well be reachable from where the workers run


def _require_content(path: str) -> None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        what = "no such file" if error.errno == errno.ENOENT else os.strerror(error.errno or 0)
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, what) from error
    if empty:
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, path, "the file is empty")


def _read_duration(container: Any, *, deep: bool) -> float | None:
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


def lenient_open_options(av: Any) -> dict[str, Any]:
    """Keywords that make `av.open` take titles in any encoding; PyAV 19 knows no others."""
    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("PyAV is not installed", remedy="pip install 'endpoint-picker[batch]'") from error
    av.logging.set_level(av.logging.PANIC)
    return av
