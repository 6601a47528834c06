"""Samples to segments by faster-whisper: windows of detected speech in batches, else in sequence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps

from epp_batch.spec import Options
from epp_batch.worker.audio import RATE, Samples
from epp_batch.worker.segments import Segment, Word, lines
from epp_batch.worker.windows import LIMIT, Window, pack

logging.getLogger("faster_whisper").setLevel(logging.ERROR)

GARBLED, UNSURE, NO_SPEECH = 2.4, -1.0, 0.6
"""OpenAI's thresholds: the compression ratio above which a text repeats itself, the mean log probability below which
the model guessed, the probability of silence above which it means it."""
BLOCK = 600.0
"""Seconds of audio that the detector hears at once."""


def device() -> str:
    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def compute_type(wanted: str) -> str:
    """`default` is 16 bits on a GPU and 8 on a CPU, where that is several times as fast as 32."""
    if wanted != "default":
        return wanted
    return "float16" if device() == "cuda" else "int8"


def speech(samples: Samples, check: Callable[[], None], block: float = BLOCK) -> list[Window]:
    """Where somebody speaks, by Silero's detector, packed into windows. Empty when nobody does.

    Works on `block` seconds at a time, since the detector takes several times the memory of what it hears, and calls
    `check` before each, which may raise. A stretch that the end of a block may have cut begins the next block.
    """
    options = VadOptions(max_speech_duration_s=LIMIT, min_silence_duration_ms=160)
    spans: list[tuple[float, float]] = []
    begin = 0
    while begin < len(samples):
        check()
        end = min(begin + round(block * RATE), len(samples))
        found = [(begin + part["start"], begin + part["end"]) for part in _detect(samples[begin:end], options)]
        if end < len(samples) and found and found[-1][1] > end - RATE and found[-1][0] > begin:
            end, _ = found.pop()
        spans += [(start / RATE, stop / RATE) for start, stop in found]
        begin = end
    return pack(spans)


def _detect(samples: Samples, options: VadOptions) -> list[dict[str, int]]:
    return get_speech_timestamps(samples, options)  # type: ignore[no-any-return]


class Whisper:
    """One loaded model."""

    def __init__(self, folder: Path, compute: str, threads: int) -> None:
        self.folder = folder
        self.compute = compute_type(compute)
        self.device = device()
        self._model: Any = faster_whisper.WhisperModel(
            str(folder), device=self.device, compute_type=self.compute, cpu_threads=threads, local_files_only=True
        )
        self._batched: Any = faster_whisper.BatchedInferencePipeline(self._model)

    @property
    def multilingual(self) -> bool:
        return bool(self._model.model.is_multilingual)

    def batch(
        self, samples: Samples, windows: Sequence[Window], options: Options, language: str | None
    ) -> tuple[list[Segment], str]:
        """Segments of these windows, and the language, which the first batch detects for all that follow."""
        joined, clips = _join(samples, windows)
        found, info = self._batched.transcribe(
            joined, language=language, clip_timestamps=clips, batch_size=len(windows), without_timestamps=True,
            **self._settings(options),
        )  # fmt: skip
        segments: list[Segment] = []
        starts = [clip["start"] for clip in clips]
        for raw in found:
            index = _window_of(raw, starts)
            clip = clips[index]
            for better in self._again(raw, joined, clip, options, info.language):
                segments += self._lines(better, windows[index], clip["start"])
        return segments, str(info.language)

    def sequence(
        self, samples: Samples, start: float, options: Options, language: str | None, said: str
    ) -> Iterator[tuple[Segment, str]]:
        """Segments from second `start` on, each with the language; what was `said` before is the model's context."""
        settings = self._settings(options)
        settings["initial_prompt"] = " ".join(filter(None, (options.initial_prompt, said))) or None
        found, info = self._model.transcribe(
            samples[round(start * RATE) :], language=language, vad_filter=options.vad, **settings
        )
        for raw in found:
            if raw.text.strip():
                words = [_word(word, word.start + start, word.end + start) for word in raw.words or []]
                yield _segment(raw, words or None, span=(raw.start + start, raw.end + start)), str(info.language)

    def _settings(self, options: Options) -> dict[str, Any]:
        return {
            "task": options.task,
            "beam_size": options.beam_size,
            "word_timestamps": options.word_timestamps,
            "initial_prompt": options.initial_prompt,
        }

    def _again(
        self, raw: Any, joined: Samples, clip: dict[str, float], options: Options, language: str
    ) -> Iterable[Any]:
        """A garbled window once more in sequence, where warmer temperatures are tried; batches have but one."""
        if not doubtful(raw):
            return [raw]
        part = joined[round(clip["start"] * RATE) : round(clip["end"] * RATE)]
        found, _ = self._model.transcribe(
            part, language=language, condition_on_previous_text=False, **self._settings(options)
        )
        return better(raw, [_moved(segment, clip["start"]) for segment in found])

    def _lines(self, raw: Any, window: Window, offset: float) -> Iterator[Segment]:
        """A window's segment in lines, at the times of the recording; as it is where words have no times."""
        if not raw.text.strip():
            return
        if not raw.words:
            yield _segment(raw, None, span=(window.spans[0][0], window.end))
            return
        words = [_word(word, *window.restore(word.start - offset, word.end - offset)) for word in raw.words]
        for line in lines(words):
            text = "".join(word.word for word in line)
            tokens = self._model.hf_tokenizer.encode(text, add_special_tokens=False).ids
            yield _segment(raw, line, span=(line[0].start, line[-1].end), text=text, tokens=tokens)


def doubtful(raw: Any) -> bool:
    """Whether a decoded window repeats itself or is a guess."""
    return bool(raw.compression_ratio > GARBLED or raw.avg_logprob < UNSURE)


def better(first: Any, second: list[Any]) -> list[Any]:
    """Which of two decodings of one window is kept.

    The second, unless it is as doubtful. Where it is empty, nobody spoke if the first said so too; else the first is
    kept: people do say `no` twenty times.
    """
    if not second:
        return [] if first.no_speech_prob > NO_SPEECH else [first]
    if first.compression_ratio > GARBLED:
        return second if max(part.compression_ratio for part in second) < first.compression_ratio else [first]
    return second if min(part.avg_logprob for part in second) > first.avg_logprob else [first]


def _join(samples: Samples, windows: Sequence[Window]) -> tuple[Samples, list[dict[str, float]]]:
    """The windows' speech end to end, and where each window lies on that line."""
    parts: list[Samples] = []
    clips: list[dict[str, float]] = []
    length = 0
    for window in windows:
        first = length
        for start, end in window.spans:
            part = samples[round(start * RATE) : round(end * RATE)]
            parts.append(part)
            length += len(part)
        clips.append({"start": first / RATE, "end": length / RATE})
    return np.concatenate(parts), clips


def _window_of(raw: Any, starts: list[float]) -> int:
    """Which window a segment came from: `seek` is the frame where its window begins."""
    return min(range(len(starts)), key=lambda index: abs(starts[index] * 100 - raw.seek))


def _moved(raw: Any, offset: float) -> Any:
    words = [replace(word, start=word.start + offset, end=word.end + offset) for word in raw.words or []]
    return replace(raw, start=raw.start + offset, end=raw.end + offset, words=words or None)


def _word(raw: Any, start: float, end: float) -> Word:
    """The library's numbers are numpy's in places."""
    return Word(round(float(start), 3), round(float(end), 3), raw.word, round(float(raw.probability), 4))


def _segment(
    raw: Any, words: list[Word] | None, *, span: tuple[float, float], text: str | None = None, tokens: Any = None
) -> Segment:
    """Our segment from the library's; numbered later, when it is known how many came before."""
    start, end = map(float, span)
    return Segment(
        id=0,
        seek=round(start * 100),
        start=round(start, 3),
        end=round(end, 3),
        text=raw.text if text is None else text,
        tokens=list(raw.tokens if tokens is None else tokens),
        temperature=float(raw.temperature or 0.0),
        avg_logprob=round(float(raw.avg_logprob), 4),
        compression_ratio=round(float(raw.compression_ratio), 4),
        no_speech_prob=round(float(raw.no_speech_prob), 6),
        words=words,
    )
