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

from epp_batch.spec import TranscriptionOptions
from epp_batch.worker.audio import SAMPLE_RATE, Samples
from epp_batch.worker.segments import Segment, Word, split_into_lines
from epp_batch.worker.windows import MAX_WINDOW_SECONDS, SpeechWindow, pack_windows

logging.getLogger("faster_whisper").setLevel(logging.ERROR)

COMPRESSION_RATIO_THRESHOLD, LOGPROB_THRESHOLD, NO_SPEECH_THRESHOLD = 2.4, -1.0, 0.6
"""OpenAI's thresholds: the compression ratio above which a text repeats itself, the mean log probability below which
the model guessed, the probability of silence above which it means it."""
VAD_BLOCK_SECONDS = 600.0
"""Seconds of audio that the detector hears at once."""


def detect_device() -> str:
    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def resolve_compute_type(wanted: str) -> str:
    """`default` is 16 bits on a GPU and 8 on a CPU, where that is several times as fast as 32."""
    if wanted != "default":
        return wanted
    return "float16" if detect_device() == "cuda" else "int8"


def detect_speech(samples: Samples, check: Callable[[], None], block: float = VAD_BLOCK_SECONDS) -> list[SpeechWindow]:
    """Where somebody speaks, by Silero's detector, packed into windows. Empty when nobody does.

    Works on `block` seconds at a time, since the detector takes several times the memory of what it hears, and calls
    `check` before each, which may raise. A stretch that the end of a block may have cut begins the next block.
    """
    options = VadOptions(max_speech_duration_s=MAX_WINDOW_SECONDS, min_silence_duration_ms=160)
    spans: list[tuple[float, float]] = []
    begin = 0
    while begin < len(samples):
        check()
        end = min(begin + round(block * SAMPLE_RATE), len(samples))
        found = [(begin + part["start"], begin + part["end"]) for part in _run_vad(samples[begin:end], options)]
        if end < len(samples) and found and found[-1][1] > end - SAMPLE_RATE and found[-1][0] > begin:
            end, _ = found.pop()
        spans += [(start / SAMPLE_RATE, stop / SAMPLE_RATE) for start, stop in found]
        begin = end
    return pack_windows(spans)


def _run_vad(samples: Samples, options: VadOptions) -> list[dict[str, int]]:
    return get_speech_timestamps(samples, options)  # type: ignore[no-any-return]


class LoadedWhisper:
    """One loaded model."""

    def __init__(self, folder: Path, compute: str, threads: int) -> None:
        self.folder = folder
        self.compute_type = resolve_compute_type(compute)
        self.device = detect_device()
        self._model: Any = faster_whisper.WhisperModel(
            str(folder), device=self.device, compute_type=self.compute_type, cpu_threads=threads, local_files_only=True
        )
        self._batched: Any = faster_whisper.BatchedInferencePipeline(self._model)

    @property
    def multilingual(self) -> bool:
        return bool(self._model.model.is_multilingual)

    def transcribe_batch(
        self, samples: Samples, windows: Sequence[SpeechWindow], options: TranscriptionOptions, language: str | None
    ) -> tuple[list[Segment], str]:
        """Segments of these windows, and the language, which the first batch detects for all that follow."""
        joined, clips = _join_windows(samples, windows)
        found, info = self._batched.transcribe(
            joined, language=language, clip_timestamps=clips, batch_size=len(windows), without_timestamps=True,
            **self._build_arguments(options),
        )  # fmt: skip
        segments: list[Segment] = []
        starts = [clip["start"] for clip in clips]
        for raw in found:
            index = _find_window(raw, starts)
            clip = clips[index]
            for better in self._retry_doubtful(raw, joined, clip, options, info.language):
                segments += self._split_segment(better, windows[index], clip["start"])
        return segments, str(info.language)

    def transcribe_sequentially(
        self, samples: Samples, start: float, options: TranscriptionOptions, language: str | None, said: str
    ) -> Iterator[tuple[Segment, str]]:
        """Segments from second `start` on, each with the language; what was `said` before is the model's context."""
        settings = self._build_arguments(options)
        settings["initial_prompt"] = " ".join(filter(None, (options.initial_prompt, said))) or None
        found, info = self._model.transcribe(
            samples[round(start * SAMPLE_RATE) :], language=language, vad_filter=options.vad, **settings
        )
        for raw in found:
            if raw.text.strip():
                words = [_convert_word(word, word.start + start, word.end + start) for word in raw.words or []]
                yield (
                    _convert_segment(raw, words or None, span=(raw.start + start, raw.end + start)),
                    str(info.language),
                )

    def _build_arguments(self, options: TranscriptionOptions) -> dict[str, Any]:
        return {
            "task": options.task,
            "beam_size": options.beam_size,
            "word_timestamps": options.word_timestamps,
            "initial_prompt": options.initial_prompt,
        }

    def _retry_doubtful(
        self, raw: Any, joined: Samples, clip: dict[str, float], options: TranscriptionOptions, language: str
    ) -> Iterable[Any]:
        """A garbled window once more in sequence, where warmer temperatures are tried; batches have but one."""
        if not is_doubtful(raw):
            return [raw]
        part = joined[round(clip["start"] * SAMPLE_RATE) : round(clip["end"] * SAMPLE_RATE)]
        found, _ = self._model.transcribe(
            part, language=language, condition_on_previous_text=False, **self._build_arguments(options)
        )
        return choose_decoding(raw, [_shift_segment(segment, clip["start"]) for segment in found])

    def _split_segment(self, raw: Any, window: SpeechWindow, offset: float) -> Iterator[Segment]:
        """A window's segment in lines, at the times of the recording; as it is where words have no times."""
        if not raw.text.strip():
            return
        if not raw.words:
            yield _convert_segment(raw, None, span=(window.spans[0][0], window.end))
            return
        words = [
            _convert_word(word, *window.restore_span(word.start - offset, word.end - offset)) for word in raw.words
        ]
        for line in split_into_lines(words):
            text = "".join(word.word for word in line)
            tokens = self._model.hf_tokenizer.encode(text, add_special_tokens=False).ids
            yield _convert_segment(raw, line, span=(line[0].start, line[-1].end), text=text, tokens=tokens)


def is_doubtful(raw: Any) -> bool:
    """Whether a decoded window repeats itself or is a guess."""
    return bool(raw.compression_ratio > COMPRESSION_RATIO_THRESHOLD or raw.avg_logprob < LOGPROB_THRESHOLD)


def choose_decoding(first: Any, second: list[Any]) -> list[Any]:
    """Which of two decodings of one window is kept.

    The second, unless it is as doubtful. Where it is empty, nobody spoke if the first said so too; else the first is
    kept: people do say `no` twenty times.
    """
    if not second:
        return [] if first.no_speech_prob > NO_SPEECH_THRESHOLD else [first]
    if first.compression_ratio > COMPRESSION_RATIO_THRESHOLD:
        return second if max(part.compression_ratio for part in second) < first.compression_ratio else [first]
    return second if min(part.avg_logprob for part in second) > first.avg_logprob else [first]


def _join_windows(samples: Samples, windows: Sequence[SpeechWindow]) -> tuple[Samples, list[dict[str, float]]]:
    """The windows' speech end to end, and where each window lies on that line."""
    parts: list[Samples] = []
    clips: list[dict[str, float]] = []
    length = 0
    for window in windows:
        first = length
        for start, end in window.spans:
            part = samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            parts.append(part)
            length += len(part)
        clips.append({"start": first / SAMPLE_RATE, "end": length / SAMPLE_RATE})
    return np.concatenate(parts), clips


def _find_window(raw: Any, starts: list[float]) -> int:
    """Which window a segment came from: `seek` is the frame where its window begins."""
    return min(range(len(starts)), key=lambda index: abs(starts[index] * 100 - raw.seek))


def _shift_segment(raw: Any, offset: float) -> Any:
    words = [replace(word, start=word.start + offset, end=word.end + offset) for word in raw.words or []]
    return replace(raw, start=raw.start + offset, end=raw.end + offset, words=words or None)


def _convert_word(raw: Any, start: float, end: float) -> Word:
    """The library's numbers are numpy's in places."""
    return Word(round(float(start), 3), round(float(end), 3), raw.word, round(float(raw.probability), 4))


def _convert_segment(
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
