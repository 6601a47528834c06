"""Recordings of the demo: synthesized speech and LibriVox."""

from __future__ import annotations

import wave

import pytest

from epp_batch.demo import speech
from epp_batch.demo.talks import DEMO_TALKS
from epp_batch.errors import InputError


@pytest.fixture
def folders(tmp_path):
    audio, references = tmp_path / "audio", tmp_path / "references"
    audio.mkdir()
    references.mkdir()
    return audio, references


def test_talks_are_synthesized_with_their_texts(folders):
    audio, references = folders
    speech.synthesize_talks(DEMO_TALKS, audio, references)
    for talk in DEMO_TALKS:
        with wave.open(str(audio / f"{talk.name}.wav")) as file:
            seconds = file.getnframes() / file.getframerate()
        words = len(talk.text.split())
        assert 1.5 < words / seconds < 5, "natural speaking rate"
        assert (references / f"{talk.name}.txt").read_text().strip() == talk.text


def test_equal_texts_give_equal_recordings_whatever_was_synthesized_before(tmp_path):
    for name, text in (("first", "Good morning."), ("other", "Something else."), ("again", "Good morning.")):
        speech.synthesize_speech(text, tmp_path / f"{name}.wav")
    assert (tmp_path / "first.wav").read_bytes() == (tmp_path / "again.wav").read_bytes()


def test_missing_espeak_is_an_input_error_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('no wheel')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match=r"espeak-ng cannot be loaded: no wheel.*batch-demo"):
        speech.synthesize_speech("Good morning.", tmp_path / "x.wav")


def test_librivox_recordings_are_copied_with_their_texts(folders, tmp_path):
    audio, references = folders
    cache = tmp_path / "cache" / "epp" / "speech" / "librivox"
    assert speech.copy_librivox(audio, references, {"XDG_CACHE_HOME": str(tmp_path / "cache")}) == 0
    cache.mkdir(parents=True)
    (cache / "a_novel-0870.wav").write_bytes(b"RIFF")
    (cache / "a_novel-0870.txt").write_text("he said\n")
    (cache / "a_novel-0880.wav").write_bytes(b"RIFF")
    assert speech.copy_librivox(audio, references, {"XDG_CACHE_HOME": str(tmp_path / "cache")}) == 1
    assert [path.name for path in audio.iterdir()] == ["librivox-0870.wav"]
    assert (references / "librivox-0870.txt").read_text() == "he said\n"
