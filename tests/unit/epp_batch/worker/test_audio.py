"""Decoding of any container and codec to 16 kHz; truncated and damaged files are rejected."""

from __future__ import annotations

import re
import wave

import av
import numpy as np
import pytest

from epp_batch.errors import FailureKind, TaskError, TaskStage
from epp_batch.intake import probe
from epp_batch.worker.audio import SAMPLE_RATE, decode_audio

SECONDS = 8.0


def tone(seconds=SECONDS, rate=SAMPLE_RATE):
    return np.sin(np.arange(int(seconds * rate)) * 440 * 2 * np.pi / rate)


def wav(path, seconds=SECONDS, rate=SAMPLE_RATE, channels=1):
    samples = (tone(seconds, rate) * 16_000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.repeat(samples, channels).tobytes())
    return path


def encoded(path, codec, rate):
    """The tone in the container of the path's suffix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(rate=rate)[None] * 16_000).astype(np.int16), "s16", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def decode(path):
    return decode_audio(path, str(path), lambda: None)


def decode_error(path):
    with pytest.raises(TaskError) as caught:
        decode(path)
    return caught.value


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 48_000),
        ("a.flac", "flac", 22_050),
        ("a.m4a", "aac", 44_100),
        ("a.mkv", "libopus", 48_000),
        ("a.aac", "aac", 44_100),
    ],
)
def test_decodes_containers_and_codecs(tmp_path, name, codec, rate):
    samples = decode(encoded(tmp_path / name, codec, rate))
    assert samples.dtype == np.float32
    assert len(samples) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples[SAMPLE_RATE : 2 * SAMPLE_RATE]))
    assert spectrum.argmax() == 440


def test_resamples_and_mixes_to_mono(tmp_path):
    samples = decode(wav(tmp_path / "a.wav", rate=8_000, channels=2))
    assert len(samples) == pytest.approx(SECONDS * SAMPLE_RATE, abs=32)
    assert np.abs(samples).max() == pytest.approx(16_000 / 32_768, rel=0.05)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"this is no audio at all, whatever its name says\n" * 100, "cannot be decoded|no audio"),
        (bytes(range(256)) * 200, "cannot be decoded|no audio"),
        (b"RIFF\x24\x00\x00\x00WAVE", "cannot be decoded|no audio"),
    ],
)
def test_file_that_is_not_audio_is_corrupt(tmp_path, content, message):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    error = decode_error(path)
    assert (error.kind, error.stage) == (FailureKind.CORRUPT, TaskStage.DECODE)
    assert re.search(message, error.message)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", None), ("a.m4a", "aac"), ("a.flac", "flac"), ("a.ogg", "libopus")]
)
def test_truncated_file_is_corrupt(tmp_path, name, codec):
    path = tmp_path / name
    if codec is None:
        wav(path)
    else:
        encoded(path, codec, 48_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    if name == "a.ogg":  # Ogg declares no duration: half a file is a valid recording of half the length
        assert len(decode(path)) / SAMPLE_RATE < 0.7 * SECONDS
        return
    error = decode_error(path)
    assert error.kind is FailureKind.CORRUPT


def test_video_without_audio_stream_is_corrupt(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    assert decode_error(path).message == "it has no audio stream"


def test_broken_packets_are_skipped(tmp_path):
    path = encoded(tmp_path / "a.mp3", "libmp3lame", 44_100)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 100] = b"\x55" * 100
    path.write_bytes(data)
    assert len(decode(path)) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.5)


def test_metadata_in_latin_1_is_ignored(tmp_path):
    """Old recorders write such titles; PyAV 18 fails on them by default."""
    path = wav(tmp_path / "a.wav")
    title = "Café".encode("latin-1") + b"\xff\xfe\0"
    chunk = b"INFOINAM" + len(title).to_bytes(4, "little") + title
    path.write_bytes(path.read_bytes() + b"LIST" + len(chunk).to_bytes(4, "little") + chunk)
    assert probe.probe_duration(str(path)) == SECONDS
    assert len(decode(path)) == SECONDS * SAMPLE_RATE


def test_missing_file_or_folder(tmp_path):
    error = decode_error(tmp_path / "a.wav")
    assert (error.kind, error.message) == (FailureKind.MISSING, "no such file or directory")
    assert decode_error(tmp_path).kind is FailureKind.MISSING


def test_check_can_end_decoding(tmp_path):
    def stop():
        raise TaskError(FailureKind.TIMEOUT, TaskStage.DECODE, "a.wav", "not finished after 1 s")

    with pytest.raises(TaskError, match="not finished"):
        decode_audio(wav(tmp_path / "a.wav", seconds=60), "a.wav", stop)
