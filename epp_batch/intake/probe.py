"""Probes the duration of a recording with FFmpeg, from container metadata where possible."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

from epp_batch.errors import FailureKind, InputError, TaskError, TaskStage
from epp_batch.spec import is_url

SERVER_TIMEOUT_SECONDS = 15.0
"""Timeout for opening a URL and for each read."""


def probe_duration(source: str, unreachable_hosts: set[str] | None = None) -> float | None:
    """Duration in seconds of the first audio stream; None if the metadata lacks it or the server cannot be reached.

    Hosts that fail are added to `unreachable_hosts` and are skipped from then on. Raises TaskError if the source is
    missing, empty or not audio.
    """
    remote = is_url(source)
    if not remote:
        _require_content(source)
    elif unreachable_hosts is not None and urlsplit(source).netloc in unreachable_hosts:
        return None
    av = _import_av()
    try:
        with av.open(
            source, timeout=SERVER_TIMEOUT_SECONDS if remote else None, **lenient_open_options(av)
        ) as container:
            if not container.streams.audio:
                raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, "it has no audio stream")
            return _read_duration(container, scan_packets=not remote)
    except av.error.InvalidDataError as error:
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, "not a readable audio file") from error
    except (av.error.FFmpegError, OSError) as error:
        if not remote:
            raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, source, str(error.strerror or error)) from error
        if isinstance(error, av.error.HTTPNotFoundError):
            raise TaskError(
                FailureKind.MISSING, TaskStage.PROBE, source, "not found on the server (HTTP 404)"
            ) from error
        if unreachable_hosts is not None:
            unreachable_hosts.add(urlsplit(source).netloc)
        return None  # the workers may still reach it: they run in another network


def describe_os_error(error: OSError) -> str:
    """The reason why a source cannot be opened."""
    return "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)


def _require_content(path: str) -> None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise TaskError(FailureKind.MISSING, TaskStage.PROBE, path, describe_os_error(error)) from error
    if empty:
        raise TaskError(FailureKind.CORRUPT, TaskStage.PROBE, path, "the file is empty")


def _read_duration(container: Any, *, scan_packets: bool) -> float | None:
    """The stream's duration, else the container's, else (`scan_packets`, reads the whole file) the last packet's
    end."""
    stream = container.streams.audio[0]
    duration = math.nan
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / 1e6  # AV_TIME_BASE: microseconds
    elif scan_packets:
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None
        )
        duration = max(ends, default=math.nan)
    return round(duration, 3) if math.isfinite(duration) and duration > 0 else None


def lenient_open_options(av: Any) -> dict[str, Any]:
    """Arguments of `av.open` to ignore metadata that is not UTF-8. PyAV 19 always does and has removed the argument."""
    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("PyAV is not installed", remedy="pip install 'endpoint-picker[batch]'") from error
    av.logging.set_level(av.logging.PANIC)
    return av
