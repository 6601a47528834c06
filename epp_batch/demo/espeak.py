"""Synthesizes one text with espeak-ng: `python -m epp_batch.demo.espeak VOICE WORDS_PER_MINUTE WAV_FILE < TEXT`.

`speech.synthesize_speech` runs it as a child process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

from epp_batch.errors import InputError

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8, _POS_CHARACTER, _PARAMETER_RATE = 1, 1, 1
_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def write_speech(text: str, path: Path, voice: str, words_per_minute: int) -> None:
    """Writes a 16-bit mono WAV file. Raises InputError if espeak-ng cannot be loaded."""
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


def _load_espeak() -> tuple[ctypes.CDLL, int]:
    """The initialized library and its sample rate in Hz."""
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


def main(argv: Sequence[str]) -> int:
    """Returns 0, or 2 with the reason on standard error."""
    voice, words_per_minute, path = argv
    try:
        write_speech(sys.stdin.buffer.read().decode(), Path(path), voice, int(words_per_minute))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
