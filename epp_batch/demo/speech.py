"""Speech for the demo: synthesized by espeak-ng (from a wheel), and LibriVox recordings if the cache has some."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

from epp_batch.demo.talks import DemoTalk
from epp_batch.errors import InputError

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8, _POS_CHARACTER, _PARAMETER_RATE = 1, 1, 1
WORDS_PER_MINUTE = 160
_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


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
    """Synthesizes `text` into a 16-bit mono WAV file. Raises InputError if espeak-ng cannot be loaded."""
    library, rate = _load_espeak()
    chunks: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _SynthCallback(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"".join(chunks))


@functools.cache
def _load_espeak() -> tuple[ctypes.CDLL, int]:
    """The initialized library, once per process, and its sample rate in Hz."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(os.fspath(espeakng_loader.get_library_path()))
    except (ImportError, OSError) as error:
        remedy = "install the extra batch-demo, or give your own recordings: epp-batch demo FILE…"
        raise InputError(f"espeak-ng cannot be loaded: {error}", remedy=remedy) from error
    data = os.fspath(espeakng_loader.get_data_path()).encode()
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, _INITIALIZE_DONT_EXIT)
    if rate <= 0:
        raise InputError("espeak-ng cannot find its voices", remedy="reinstall espeakng-loader")
    return library, rate
