"""Any container and codec to 16 kHz mono samples, by the FFmpeg libraries that PyAV carries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.intake.probe import lenient_open_options

SAMPLE_RATE = 16_000
ESTIMATING_DEMUXERS = frozenset({"mp3", "aac", "adts", "ac3", "eac3", "amr", "loas", "dts"})
"""Demuxers that guess a recording's length from its bit rate."""
MIN_PLACEHOLDER_SIZE = 0x7FFF_F000
"""Sizes from here on stand in WAV headers of those who did not know it."""
MAX_MISSING_SHARE = 0.02
"""Share of the declared length that may be missing before a file counts as corrupt, and at least LOST_SECONDS."""
MAX_MISSING_SECONDS = 2.0

Samples = NDArray[np.float32]


def require_readable(path: Path, source: str) -> None:
    """Raises WorkError unless there is a file with something in it."""
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise TaskError(
            FailureKind.MISSING, TaskStage.DECODE, source, (error.strerror or "cannot be read").lower()
        ) from error
    if not path.is_file():
        raise TaskError(FailureKind.MISSING, TaskStage.DECODE, source, "is not a file")
    if size == 0:
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "the file has 0 bytes")


def decode_audio(path: Path, source: str, check: Callable[[], None]) -> Samples:
    """All samples, between -1 and 1. `check` is called every few seconds of audio and may raise.

    WorkError (CORRUPT) for what holds no audio, cannot be decoded, or ends long before the length that its container
    declares: half a transcript that looks whole would be worse than none.
    """
    require_readable(path, source)
    raw = bytearray()
    try:
        with av.open(os.fspath(path), **lenient_open_options(av)) as container:
            if not container.streams.audio:
                raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "no audio in it")
            declared = _read_declared_seconds(container, path)
            broken = _resample_into(raw, container, check)
    except av.error.FFmpegError as error:
        raise TaskError(
            FailureKind.CORRUPT, TaskStage.DECODE, source, f"not decodable: {(error.strerror or 'broken').lower()}"
        ) from error
    samples = np.frombuffer(raw, dtype=np.int16).astype(np.float32)
    samples /= 32_768
    _require_whole(len(samples) / SAMPLE_RATE, declared, broken, source)
    return samples


def _require_whole(seconds: float, declared: float | None, broken: int, source: str) -> None:
    if seconds == 0:
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "no audio in it that can be decoded")
    if declared is not None and declared - seconds > max(MAX_MISSING_SECONDS, MAX_MISSING_SHARE * declared):
        message = f"only {seconds:.1f} s of {declared:.1f} s can be decoded"
        if broken:
            message += f" ({broken} packets are broken)"
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, message)


def _read_declared_seconds(container: Any, path: Path) -> float | None:
    """Seconds, where the container knows rather than guesses."""
    names = set(container.format.name.split(","))
    if ESTIMATING_DEMUXERS & names:
        return None
    stream = container.streams.audio[0]
    seconds: float | None = container.duration / av.time_base if container.duration else None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    if seconds is not None and "wav" in names:
        seconds *= _wav_truncation_factor(path)
    return seconds


def _wav_truncation_factor(path: Path) -> float:
    """How many times longer a WAV file says it is than it is; FFmpeg believes the file's size.

    1 for one written to a pipe, whose header could not know.
    """
    with path.open("rb") as file:
        head = file.read(8)
    said = int.from_bytes(head[4:8], "little") + 8
    there = path.stat().st_size
    return said / there if head[:4] == b"RIFF" and there < said < MIN_PLACEHOLDER_SIZE else 1.0


def _resample_into(raw: bytearray, container: Any, check: Callable[[], None]) -> int:
    """Appends all decodable audio as 16-bit samples; the number of packets that were not."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    broken = [0]
    checked = 0
    for frame in chain(_decode_frames(container, broken), [None]):
        for part in resampler.resample(frame):
            raw += part.to_ndarray().tobytes()
        if len(raw) - checked > 20 * SAMPLE_RATE:
            checked = len(raw)
            check()
    return broken[0]


def _decode_frames(container: Any, broken: list[int]) -> Iterator[Any]:
    """Frames without their time stamps, which damaged files have wrong; packets that do not decode are counted."""
    for packet in container.demux(audio=0):
        try:
            for frame in packet.decode():
                frame.pts = None
                yield frame
        except av.error.InvalidDataError:
            broken[0] += 1
