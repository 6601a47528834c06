"""Decodes audio of any container and codec to 16 kHz mono samples, with the FFmpeg libraries bundled in PyAV."""

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
ESTIMATING_DEMUXERS = frozenset({"mp3", "aac", "ac3", "eac3", "amr", "loas", "dts"})
"""FFmpeg demuxers whose duration is an estimate from the bit rate."""
MIN_PLACEHOLDER_SIZE = 0x7FFF_F000
"""WAV sizes from here on are placeholders of encoders that write to a pipe: SoX's data size, FFmpeg's 0xFFFFFFFF."""
MAX_MISSING_SHARE = 0.02
"""A file is corrupt if more than this share of its declared duration, and MAX_MISSING_SECONDS, cannot be decoded."""
MAX_MISSING_SECONDS = 2.0

Samples = NDArray[np.float32]


def require_readable(path: Path, source: str) -> None:
    """Raises TaskError unless `path` is a readable, non-empty file."""
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise TaskError(
            FailureKind.MISSING, TaskStage.DECODE, source, (error.strerror or "cannot be read").lower()
        ) from error
    if not path.is_file():
        raise TaskError(FailureKind.MISSING, TaskStage.DECODE, source, "not a regular file")
    if size == 0:
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "the file has 0 bytes")


def decode_audio(path: Path, source: str, check: Callable[[], None]) -> Samples:
    """Decodes the first audio stream to float32 samples in [-1, 1], shape (n,).

    `check` is called after every 10 s of audio and may raise. Raises TaskError (CORRUPT) if the file has no audio,
    cannot be decoded, or ends long before its declared duration: a transcript of half a recording must not pass as
    complete.
    """
    require_readable(path, source)
    raw = bytearray()
    try:
        with av.open(os.fspath(path), **lenient_open_options(av)) as container:
            if not container.streams.audio:
                raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "it has no audio stream")
            declared = _read_declared_seconds(container, path)
            broken = _resample_into(raw, container, check)
    except av.error.FFmpegError as error:
        raise TaskError(
            FailureKind.CORRUPT, TaskStage.DECODE, source, f"cannot be decoded: {(error.strerror or 'broken').lower()}"
        ) from error
    samples = np.frombuffer(raw, dtype=np.int16).astype(np.float32)
    samples /= 32_768
    _require_whole(len(samples) / SAMPLE_RATE, declared, broken, source)
    return samples


def _require_whole(seconds: float, declared: float | None, broken: int, source: str) -> None:
    if seconds == 0:
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, "no audio in it can be decoded")
    if declared is not None and declared - seconds > max(MAX_MISSING_SECONDS, MAX_MISSING_SHARE * declared):
        message = f"only {seconds:.1f} s of {declared:.1f} s can be decoded"
        if broken:
            message += f" ({broken} packets are broken)"
        raise TaskError(FailureKind.CORRUPT, TaskStage.DECODE, source, message)


def _read_declared_seconds(container: Any, path: Path) -> float | None:
    """The container's declared duration in seconds; None if it is an estimate or missing."""
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
    """The size in a WAV file's RIFF header divided by the actual size, if the file is truncated; else 1.

    FFmpeg derives the duration of a truncated WAV file from its actual size. A placeholder size counts as complete.
    """
    with path.open("rb") as file:
        header = file.read(8)
    declared = int.from_bytes(header[4:8], "little") + 8
    actual = path.stat().st_size
    return declared / actual if header[:4] == b"RIFF" and actual < declared < MIN_PLACEHOLDER_SIZE else 1.0


def _resample_into(raw: bytearray, container: Any, check: Callable[[], None]) -> int:
    """Appends all decodable audio as 16-bit samples to `raw`; returns the number of undecodable packets."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    broken = [0]
    checked = 0
    for frame in chain(_decode_frames(container, broken), [None]):
        for part in resampler.resample(frame):
            raw += part.to_ndarray().tobytes()
        if len(raw) - checked > 20 * SAMPLE_RATE:  # 2 bytes a sample: 10 s
            checked = len(raw)
            check()
    return broken[0]


def _decode_frames(container: Any, broken: list[int]) -> Iterator[Any]:
    """Decoded frames without timestamps (wrong in damaged files); counts undecodable packets in `broken`."""
    for packet in container.demux(audio=0):
        try:
            for frame in packet.decode():
                frame.pts = None
                yield frame
        except av.error.InvalidDataError:
            broken[0] += 1
