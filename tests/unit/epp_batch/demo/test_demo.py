"""The parts of the demo: speech that can be played, children that end."""

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


def test_each_call_is_spoken_and_its_text_kept(folders):
    audio, references = folders
    speech.synthesize_talks(DEMO_TALKS, audio, references)
    for call in DEMO_TALKS:
        with wave.open(str(audio / f"{call.name}.wav")) as file:
            seconds = file.getnframes() / file.getframerate()
        words = len(call.text.split())
        assert 1.5 < words / seconds < 5, "as fast as people speak"
        assert (references / f"{call.name}.txt").read_text().strip() == call.text


def test_recordings_of_people_are_taken_from_the_cache_with_their_texts(folders, tmp_path):
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


async def test_a_gateway_that_cannot_start_says_why(tmp_path):
    with pytest.raises(BatchError, match=r"epp up did not start: .*--sim"):
        async with processes.start_gateway(0, tmp_path / "gateway.log"):
            pytest.fail("it started")


async def test_a_step_that_takes_too_long_is_ended(tmp_path):
    before = set(os.listdir("/proc"))
    with pytest.raises(BatchError, match=r"summarize took more than 0\.01 s"):
        await processes.run_command(["summarize", str(tmp_path), "--url=http://127.0.0.1:9", "--follow"], 0.01)
    assert not any(alive(pid) for pid in set(os.listdir("/proc")) - before if pid.isdecimal())


def alive(pid: str) -> bool:
    """Whether it is a child of ours that has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return parent == str(os.getpid()) and state != "Z"
