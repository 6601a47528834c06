"""Speech for tests: synthesized by espeak-ng (from a wheel), or LibriVox recordings from a PyPI source package."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
import tempfile
import wave
from pathlib import Path

from epp_batch.demo.speech import synthesize_speech

VERSION = "5.1.1"
SDIST_SHA256 = "675778b309a22dfc9b7d37f7621976bba491d2a5f8c59696bd77fd6d07271355"
"""BSD licence; its test data contains five sentences from LibriVox, which are in the public domain."""

WORDS_PER_MINUTE = 150


def synthesize_wav(text: str, path: Path, voice: str = "en-us") -> Path:
    """Synthesizes `text` into a 16-bit mono WAV file; returns its path."""
    synthesize_speech(text, path, voice=voice, words_per_minute=WORDS_PER_MINUTE)
    return path


def write_silent_wav(seconds: float, path: Path, rate: int = 16_000) -> Path:
    """Writes a silent 16-bit mono WAV file; returns its path."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(seconds * rate)))
    return path


def load_librivox_sentences() -> list[tuple[Path, str]]:
    """(WAV file, text) of five LibriVox sentences, 24.7 s together.

    Downloaded once, verified by digest, and kept in the user's cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epp" / "speech"
    folder = cache / "librivox"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _unpack_sentences(_download_archive(Path(work)), Path(work) / "librivox")
            with contextlib.suppress(OSError):  # another test run has created it meanwhile
                (Path(work) / "librivox").rename(folder)
    return [(path, path.with_suffix(".txt").read_text().strip()) for path in sorted(folder.glob("*.wav"))]


def _download_archive(folder: Path) -> Path:
    """Downloads the source archive with pip, which verifies the digest before it opens the archive."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"pocketsphinx=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
    command = (sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps")
    subprocess.run((*command, "--no-binary", "pocketsphinx", "-d", folder, "-r", requirements), check=True)
    return folder / f"pocketsphinx-{VERSION}.tar.gz"


def _unpack_sentences(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name)
            if name.parent.name == "librivox" and name.suffix in {".wav", ".txt"}:
                content = tar.extractfile(member)
                assert content is not None
                (folder / name.name).write_bytes(content.read())
