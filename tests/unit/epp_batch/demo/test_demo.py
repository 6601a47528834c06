"""Parts of the demo: synthesized speech, LibriVox recordings, child processes."""

from __future__ import annotations

import os
import wave

import pytest

from epp_batch.demo import processes, speech
from epp_batch.demo.talks import DEMO_TALKS
from epp_batch.errors import BatchError


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


async def test_gateway_that_does_not_start_raises_with_its_message(tmp_path):
    with pytest.raises(BatchError, match=r"epp up did not start: .*--sim"):
        async with processes.start_gateway(0, tmp_path / "gateway.log"):
            pytest.fail("it started")


async def test_command_that_exceeds_its_limit_is_stopped(tmp_path):
    before = set(os.listdir("/proc"))
    with pytest.raises(BatchError, match=r"summarize took more than 0\.01 s"):
        await processes.run_command(["summarize", str(tmp_path), "--url=http://127.0.0.1:9", "--follow"], 0.01)
    assert not any(is_running_child(pid) for pid in set(os.listdir("/proc")) - before if pid.isdecimal())


def is_running_child(pid: str) -> bool:
    """Whether the process is a child of this one and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return parent == str(os.getpid()) and state != "Z"
