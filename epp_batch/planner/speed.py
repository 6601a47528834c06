"""How long a recording takes: audio seconds x real-time factor x slow-down of the slice, plus a start-up.

Where the numbers come from is part of each set of speeds, since a prediction is as good as they are:

- the factors of Whisper medium and large on a whole A100 are fitted to the paper's mean completion of 28 minutes
  (arXiv 2602.04900; 32 jobs, first in first out on 8 GPUs), with large at twice medium as openai/whisper's README has
  it, and 60 s to pull the image and fetch the weights; the other sizes follow from the same README;
- a slice is 1.44 times slower, fitted to the paper's mean of 18 minutes with DAS; one number for 1g and 3g, because
  that worker decodes one chunk at a time and waits more than it computes. `sm_share` is the pessimistic other end:
  time goes as 1 / share of multiprocessors;
- batched faster-whisper is 8.3 times faster than openai/whisper: large-v2, 13 minutes of audio, RTX 3070 Ti, 143 s
  against 17 s in the README of faster-whisper 1.1.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

import msgspec

from epp_batch.errors import InputError
from epp_batch.output_folder import TranscriptionResult

RELATIVE_SPEED = {"tiny": 10.0, "base": 7.0, "small": 4.0, "medium": 2.0, "large": 1.0, "turbo": 8.0}
"""Speed of each size over that of large; openai/whisper's README, English on an A100."""

LARGE_RTF = 0.266
"""Real-time factor of openai/whisper large on a whole A100; the fit above."""

SLICE_SLOWDOWN = 1.44
BATCHED_SPEEDUP = 143 / 17


class SpeedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Real-time factors by model, and what comes on top."""

    name: str
    source: str
    """Where the numbers are from, for people."""
    rtf_by_model: dict[str, float]
    """Processing seconds per audio second on a whole GPU, by model size."""
    startup_seconds: float = 60.0
    """Seconds before the first audio second: image, weights, loading."""
    slice_slowdown: float = SLICE_SLOWDOWN
    """Factor on every slice smaller than the GPU."""
    scales_with_sm_share: bool = False
    """Instead, slow down by 7 / sevenths of the multiprocessors."""

    def real_time_factor(self, model: str) -> float:
        """Real-time factor of a model; `large-v3`, `medium.en` or a path count as the size in their name."""
        if model in self.rtf_by_model:
            return self.rtf_by_model[model]
        name = model_size(model)
        if name not in self.rtf_by_model:
            raise InputError(
                f"no speed is known for the model {model!r}",
                remedy=f"give one with --rtf {model}=FACTOR; known are {', '.join(self.rtf_by_model)}",
            )
        return self.rtf_by_model[name]

    def slowdown_on_slice(self, compute: int | None) -> float:
        """By how much a slice with so many sevenths of the GPU is slower; None is a whole GPU."""
        if compute is None or compute >= 7:
            return 1.0
        return 7 / compute if self.scales_with_sm_share else self.slice_slowdown

    def transcription_seconds(self, model: str, audio: float, compute: int | None = None) -> float:
        """Wall seconds of the work itself, without the start-up."""
        return audio * self.real_time_factor(model) * self.slowdown_on_slice(compute)


def model_size(model: str) -> str:
    """The size in a model's name: tiny, base, small, medium, turbo or large; the name itself where there is none."""
    bare = model.rstrip("/").rsplit("/", 1)[-1].lower()
    for name in ("turbo", "tiny", "base", "small", "medium", "large"):
        if name in bare:
            return name
    return model


PAPER_SPEEDS = SpeedModel(
    name="openai-whisper",
    source="openai/whisper on an A100-40GB, fitted to the means of arXiv 2602.04900",
    rtf_by_model={name: LARGE_RTF / relative for name, relative in RELATIVE_SPEED.items()},
)
FASTER_WHISPER_SPEEDS = SpeedModel(
    name="faster-whisper",
    source="openai/whisper's fit / 8.3 (README of faster-whisper: large-v2, batch 8, RTX 3070 Ti); slices by their "
    "share of multiprocessors, since batches compute more than they wait",
    rtf_by_model={name: LARGE_RTF / relative / BATCHED_SPEEDUP for name, relative in RELATIVE_SPEED.items()},
    scales_with_sm_share=True,
)
SPEED_PRESETS = {speeds.name: speeds for speeds in (PAPER_SPEEDS, FASTER_WHISPER_SPEEDS)}


def override_speeds(speeds: SpeedModel, factors: Mapping[str, float], startup: float | None = None) -> SpeedModel:
    """The same with some factors, and perhaps the start-up, of one's own."""
    return msgspec.structs.replace(
        speeds,
        rtf_by_model={**speeds.rtf_by_model, **factors},
        startup_seconds=speeds.startup_seconds if startup is None else startup,
    )


def measure_speeds(results: Iterable[TranscriptionResult], base: SpeedModel) -> SpeedModel:
    """Speeds from what was really measured: the median factor of each model, the median of everything but transcribing.

    Models that were not measured keep the factor of `base`. Raises InputError when there is no result to learn from.
    """
    factors: dict[str, list[float]] = {}
    startups = []
    for result in results:
        if result.rtf > 0:
            factors.setdefault(result.model, []).append(result.rtf)
            startups.append(sum(took for what, took in result.timings.items() if what != "transcribe"))
    if not factors:
        raise InputError("no finished transcript to learn speeds from", remedy="name a folder with *.done.json files")
    return SpeedModel(
        name="measured",
        source=f"medians of {len(startups)} transcripts",
        rtf_by_model={**base.rtf_by_model, **{model: statistics.median(found) for model, found in factors.items()}},
        startup_seconds=statistics.median(startups),
        slice_slowdown=base.slice_slowdown,
        scales_with_sm_share=base.scales_with_sm_share,
    )
