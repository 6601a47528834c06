"""Whisper inference with faster-whisper: speech detection, and batched or sequential transcription to segments."""

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
"""openai-whisper's defaults for its temperature fallback: a text that compresses better repeats itself, a lower mean
log probability is a guess, a higher no-speech probability is silence."""
VAD_BLOCK_SECONDS = 600.0
"""Seconds of audio per run of voice activity detection, which limits its memory."""


def detect_device() -> str:
    """`cuda` if CTranslate2 sees a GPU, else `cpu`."""
    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def resolve_compute_type(requested: str) -> str:
    """CTranslate2 compute type; `default` is float16 on a GPU, int8 on a CPU (several times faster than float32)."""
    if requested != "default":
        return requested
    return "float16" if detect_device() == "cuda" else "int8"


def detect_speech(samples: Samples, check: Callable[[], None], block: float = VAD_BLOCK_SECONDS) -> list[SpeechWindow]:
    """Detects speech with Silero VAD and packs it into windows; empty if there is none.

    Works on `block` seconds at a time, since VAD takes several times the memory of its input; calls `check`, which may
    raise, before each block. A span that reaches into the last second of a block is detected again with the next block.
    """
    # The defaults of faster-whisper's BatchedInferencePipeline.
    options = VadOptions(max_speech_duration_s=MAX_WINDOW_SECONDS, min_silence_duration_ms=160)
    spans: list[tuple[float, float]] = []
    begin = 0
    while begin < len(samples):
        check()
        end = min(begin + round(block * SAMPLE_RATE), len(samples))
        speech = get_speech_timestamps(samples[begin:end], options)
        found = [(begin + part["start"], begin + part["end"]) for part in speech]
        if end < len(samples) and found and found[-1][1] > end - SAMPLE_RATE and found[-1][0] > begin:
            end, _ = found.pop()
        spans += [(start / SAMPLE_RATE, stop / SAMPLE_RATE) for start, stop in found]
        begin = end
    return pack_windows(spans)


class LoadedWhisper:
    """One model loaded by faster-whisper, on the GPU if there is one. Not thread-safe."""

    def __init__(self, folder: Path, compute_type: str, threads: int) -> None:
        self.compute_type = resolve_compute_type(compute_type)
        self.device = detect_device()
        self._model: Any = faster_whisper.WhisperModel(
            str(folder), device=self.device, compute_type=self.compute_type, cpu_threads=threads, local_files_only=True
        )
        self._batched: Any = faster_whisper.BatchedInferencePipeline(self._model)

    def transcribe_batch(
        self, samples: Samples, windows: Sequence[SpeechWindow], options: TranscriptionOptions, language: str | None
    ) -> tuple[list[Segment], str]:
        """Transcribes windows in one batch: segments, and the language, which is detected if `language` is None."""
        joined, clips = _join_windows(samples, windows)
        raw_segments, info = self._batched.transcribe(
            joined, language=language, clip_timestamps=clips, batch_size=len(windows), without_timestamps=True,
            **self._build_arguments(options),
        )  # fmt: skip
        segments: list[Segment] = []
        starts = [clip["start"] for clip in clips]
        for raw in raw_segments:
            index = _find_window(raw, starts)
            clip = clips[index]
            for chosen in self._retry_doubtful(raw, joined, clip, options, info.language):
                segments += self._split_segment(chosen, windows[index], clip["start"])
        return segments, str(info.language)

    def transcribe_sequentially(
        self, samples: Samples, start: float, options: TranscriptionOptions, language: str | None, previous_text: str
    ) -> Iterator[tuple[Segment, str]]:
        """Yields segments from second `start` on, each with the language; `previous_text` is appended to the prompt."""
        arguments = self._build_arguments(options)
        arguments["initial_prompt"] = " ".join(filter(None, (options.initial_prompt, previous_text))) or None
        found, info = self._model.transcribe(
            samples[round(start * SAMPLE_RATE) :], language=language, vad_filter=options.vad, **arguments
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
        """Decodes a doubtful window again sequentially.

        faster-whisper's batched pipeline uses the first temperature only; the sequential one falls back to higher ones
        (`generate_with_fallback`).
        """
        if not is_doubtful(raw):
            return [raw]
        part = joined[round(clip["start"] * SAMPLE_RATE) : round(clip["end"] * SAMPLE_RATE)]
        found, _ = self._model.transcribe(
            part, language=language, condition_on_previous_text=False, **self._build_arguments(options)
        )
        return choose_decoding(raw, [_shift_segment(segment, clip["start"]) for segment in found])

    def _split_segment(self, raw: Any, window: SpeechWindow, offset: float) -> Iterator[Segment]:
        """Splits a window's segment into lines with times of the recording; one segment if it has no word timestamps.

        `offset` is the window's start in the concatenated audio, in seconds.
        """
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
    """Whether a decoding needs openai-whisper's temperature fallback: repetitive text or a low log probability.

    Unlike its `decode_with_fallback` this does not except silence: the second decoding returns no segment for it.
    """
    return bool(raw.compression_ratio > COMPRESSION_RATIO_THRESHOLD or raw.avg_logprob < LOGPROB_THRESHOLD)


def choose_decoding(first: Any, second: list[Any]) -> list[Any]:
    """Chooses between two decodings of one window: the second if it is better in the criterion that the first failed.

    If the second is empty, the result is empty only if the first also has a high no-speech probability. Otherwise the
    first is kept: repetition may be what was said.
    """
    if not second:
        return [] if first.no_speech_prob > NO_SPEECH_THRESHOLD else [first]
    if first.compression_ratio > COMPRESSION_RATIO_THRESHOLD:
        return second if max(part.compression_ratio for part in second) < first.compression_ratio else [first]
    return second if min(part.avg_logprob for part in second) > first.avg_logprob else [first]


def _join_windows(samples: Samples, windows: Sequence[SpeechWindow]) -> tuple[Samples, list[dict[str, float]]]:
    """Concatenates the windows' speech; returns it with the `clip_timestamps` of each window, in seconds."""
    parts: list[Samples] = []
    clips: list[dict[str, float]] = []
    length = 0
    for window in windows:
        first_sample = length
        for start, end in window.spans:
            part = samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            parts.append(part)
            length += len(part)
        clips.append({"start": first_sample / SAMPLE_RATE, "end": length / SAMPLE_RATE})
    return np.concatenate(parts), clips


def _find_window(raw: Any, starts: list[float]) -> int:
    """Index of the window that a segment came from; its `seek` is the window's start in frames of 10 ms."""
    return min(range(len(starts)), key=lambda index: abs(starts[index] * 100 - raw.seek))


def _shift_segment(raw: Any, offset: float) -> Any:
    words = [replace(word, start=word.start + offset, end=word.end + offset) for word in raw.words or []]
    return replace(raw, start=raw.start + offset, end=raw.end + offset, words=words or None)


def _convert_word(raw: Any, start: float, end: float) -> Word:
    """Our word from faster-whisper's, at these times; converts numpy scalars, which JSON cannot encode."""
    return Word(round(float(start), 3), round(float(end), 3), raw.word, round(float(raw.probability), 4))


def _convert_segment(
    raw: Any, words: list[Word] | None, *, span: tuple[float, float], text: str | None = None, tokens: Any = None
) -> Segment:
    """Our segment from faster-whisper's; its id is assigned by `PartialProgress.add`."""
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
