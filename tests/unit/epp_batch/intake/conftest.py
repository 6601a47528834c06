"""Audio files generated in real containers and codecs, and folders for them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from epp_batch.output_folder import OutputFolder

CODECS = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac", "m4a": "aac", "aac": "aac", "opus": "libopus"}


def record(path: Path, seconds: float, *, tone: float = 220.0) -> Path:
    """A tone of about `seconds` (whole frames of 1024 samples); its bytes depend on `tone`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = 48_000 if path.suffix == ".opus" else 16_000
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        for start in range(0, int(seconds * rate), 1024):
            wave = np.sin(np.arange(start, start + 1024) * (2 * np.pi * tone / rate)) * 8000
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def audio(tmp_path):
    """The folder of audio sources."""
    folder = tmp_path / "audio"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(tmp_path):
    """The output folder."""
    return OutputFolder(tmp_path / "out")
