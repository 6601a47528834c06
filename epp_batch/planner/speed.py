"""How long a transcription takes: audio seconds x real-time factor x slowdown of the slice, plus a start-up.

A prediction is as good as these numbers, so every set of them names its source:

- The factors of Whisper medium and large on a whole A100 are fitted to the paper's mean completion of 28 minutes (arXiv
  2602.04900; 32 jobs, first in first out on 8 GPUs), with large at twice medium as in openai/whisper's README, and 60 s
  to pull the image and download the weights. The other sizes follow from the same README.
- A slice is 1.44 times slower, fitted to the paper's mean of 18 minutes with DAS. It is one number for 1g and 3g,
  because that worker decodes one chunk at a time and is bound by latency. `scales_with_sm_share` is the pessimistic
  opposite: time in proportion to 1 / share of multiprocessors.
- Batched faster-whisper is 8.4 times faster than openai/whisper: large-v2, 13 minutes of audio, RTX 3070 Ti, 143 s
  against 17 s in the README of faster-whisper 1.1.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

import msgspec

from epp_batch.errors import InputError
from epp_batch.output_folder import TranscriptionResult

RELATIVE_SPEED = {"tiny": 10.0, "base": 7.0, "small": 4.0, "medium": 2.0, "large": 1.0, "turbo": 8.0}
"""Speed of each size over that of large, in English on an A100; openai/whisper's README."""

LARGE_RTF = 0.266
"""Real-time factor of openai/whisper large on a whole A100; the fit above."""

SLICE_SLOWDOWN = 1.44
BATCHED_SPEEDUP = 143 / 17


class SpeedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Real-time factors by model, the start-up, and how slices scale."""

    name: str
    source: str
    """Where the numbers come from, for people."""
    rtf_by_model: dict[str, float]
    """Processing seconds per audio second on a whole GPU; by model, or by model size."""
    startup_seconds: float = 60.0
    """Before the first audio second: image, weights, loading."""
    slice_slowdown: float = SLICE_SLOWDOWN
    """Factor on every slice that is smaller than the GPU."""
    scales_with_sm_share: bool = False
    """Instead of `slice_slowdown`, a factor of 7 / compute slices."""

    def real_time_factor(self, model: str) -> float:
        """The factor of a model name, else of the size in it (`large-v3`, `medium.en`, a path); else InputError."""
        if model in self.rtf_by_model:
            return self.rtf_by_model[model]
        size = model_size(model)
        if size not in self.rtf_by_model:
            raise InputError(
                f"no speed is known for model {model!r}",
                remedy=f"give one with --rtf {model}=FACTOR; known are {', '.join(self.rtf_by_model)}",
            )
        return self.rtf_by_model[size]

    def slowdown_on_slice(self, compute_slices: int | None) -> float:
        """Factor by which a slice with so many sevenths of the multiprocessors is slower; None is a whole GPU."""
        if compute_slices is None or compute_slices >= 7:
            return 1.0
        return 7 / compute_slices if self.scales_with_sm_share else self.slice_slowdown

    def transcription_seconds(self, model: str, audio_seconds: float, compute_slices: int | None = None) -> float:
        """Wall seconds of the transcription itself, without the start-up."""
        return audio_seconds * self.real_time_factor(model) * self.slowdown_on_slice(compute_slices)


def model_size(model: str) -> str:
    """The Whisper size in a model's name or path: tiny, base, small, medium, turbo or large; else the name itself."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    for size in ("turbo", "tiny", "base", "small", "medium", "large"):
        if size in name:
            return size
    return model


PAPER_SPEEDS = SpeedModel(
    name="openai-whisper",
    source="openai/whisper on an A100-40GB, fitted to the means of arXiv 2602.04900",
    rtf_by_model={size: LARGE_RTF / relative for size, relative in RELATIVE_SPEED.items()},
)
FASTER_WHISPER_SPEEDS = SpeedModel(
    name="faster-whisper",
    source="openai/whisper's fit / 8.4 (README of faster-whisper: large-v2, batch 8, RTX 3070 Ti); slices by their "
    "share of multiprocessors, because batches are bound by compute",
    rtf_by_model={size: LARGE_RTF / relative / BATCHED_SPEEDUP for size, relative in RELATIVE_SPEED.items()},
    scales_with_sm_share=True,
)
SPEED_PRESETS = {speeds.name: speeds for speeds in (PAPER_SPEEDS, FASTER_WHISPER_SPEEDS)}


def override_speeds(
    speeds: SpeedModel, rtf_by_model: Mapping[str, float], startup_seconds: float | None = None
) -> SpeedModel:
    """A copy with some factors replaced or added, and with another start-up unless that is None."""
    return msgspec.structs.replace(
        speeds,
        rtf_by_model={**speeds.rtf_by_model, **rtf_by_model},
        startup_seconds=speeds.startup_seconds if startup_seconds is None else startup_seconds,
    )


def measure_speeds(results: Iterable[TranscriptionResult], base: SpeedModel) -> SpeedModel:
    """Speeds from finished transcripts: the median factor of each model, the median of all time not transcribing.

    Models without a result keep the factor of `base`, and so do slices. Raises InputError when there is no result.
    """
    factors: dict[str, list[float]] = {}
    startups = []
    for result in results:
        if result.rtf > 0:
            factors.setdefault(result.model, []).append(result.rtf)
            startups.append(sum(seconds for step, seconds in result.timings.items() if step != "transcribe"))
    if not factors:
        raise InputError("no finished transcript to learn speeds from", remedy="name a folder with *.done.json files")
    medians = {model: statistics.median(measured) for model, measured in factors.items()}
    return SpeedModel(
        name="measured",
        source=f"medians of {len(startups)} transcripts",
        rtf_by_model={**base.rtf_by_model, **medians},
        startup_seconds=statistics.median(startups),
        slice_slowdown=base.slice_slowdown,
        scales_with_sm_share=base.scales_with_sm_share,
    )
