"""Speech for the demo: synthesized by espeak-ng (from a wheel), and LibriVox recordings if the cache has some."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from epp_batch.demo.talks import DemoTalk
from epp_batch.errors import InputError

WORDS_PER_MINUTE = 160


def synthesize_talks(talks: Sequence[DemoTalk], audio: Path, references: Path) -> None:
    """Writes each talk as NAME.wav and its text as NAME.txt. Raises InputError if espeak-ng cannot be loaded."""
    for talk in talks:
        synthesize_speech(talk.text, audio / f"{talk.name}.wav", voice=talk.voice)
        (references / f"{talk.name}.txt").write_text(talk.text + "\n", encoding="utf-8")


def copy_librivox(audio: Path, references: Path, environment: Mapping[str, str]) -> int:
    """Copies LibriVox recordings and their texts from the cache; returns how many."""
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epp" / "speech" / "librivox"
    count = 0
    for path in sorted(cache.glob("*.wav")):
        text = path.with_suffix(".txt")
        if text.exists():
            name = f"librivox-{path.stem.rpartition('-')[2]}"
            shutil.copyfile(path, audio / f"{name}.wav")
            shutil.copyfile(text, references / f"{name}.txt")
            count += 1
    return count


def synthesize_speech(text: str, path: Path, *, voice: str = "en-us", words_per_minute: int = WORDS_PER_MINUTE) -> None:
    """Synthesizes `text` into a 16-bit mono WAV file. Raises InputError if espeak-ng cannot be loaded.

    In a process of its own: the samples depend on everything that espeak-ng has synthesized before in its process, and
    neither its seed nor a new initialization resets that. So equal texts give equal files.
    """
    command = [sys.executable, "-m", "epp_batch.demo.espeak", voice, str(words_per_minute), str(path)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise InputError(done.stderr.decode(errors="replace").strip())
