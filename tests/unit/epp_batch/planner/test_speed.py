"""Speeds: the fit to the paper, published figures, what was measured."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.output_folder import TranscriptionResult
from epp_batch.planner.speed import FASTER_WHISPER_SPEEDS, PAPER_SPEEDS, measure_speeds, model_size, override_speeds
from epp_batch.spec import TranscriptionOptions


def result(model: str, rtf: float, **timings: float) -> TranscriptionResult:
    return TranscriptionResult(
        key="k",
        source="s",
        sha256="",
        model=model,
        options=TranscriptionOptions(),
        audio_seconds=100,
        rtf=rtf,
        timings=timings,
    )


def test_a_slice_is_slower_by_one_factor_and_the_whole_gpu_by_none():
    assert PAPER_SPEEDS.transcription_seconds("large", 1000) == pytest.approx(266)
    assert PAPER_SPEEDS.transcription_seconds("medium", 1000, 1) == pytest.approx(133 * 1.44)
    assert PAPER_SPEEDS.transcription_seconds("large", 1000, 3) == pytest.approx(266 * 1.44)
    assert PAPER_SPEEDS.transcription_seconds("large", 1000, 7) == pytest.approx(266)


def test_batches_slow_down_with_their_share_of_multiprocessors():
    assert FASTER_WHISPER_SPEEDS.transcription_seconds("large", 1000, 1) == pytest.approx(
        7 * FASTER_WHISPER_SPEEDS.transcription_seconds("large", 1000)
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [("large-v3-turbo", "turbo"), ("/models/faster-whisper-large-v3/", "large"), ("medium.en", "medium"), ("x", "x")],
)
def test_a_model_counts_as_the_size_in_its_name(name, known):
    assert model_size(name) == known


def test_a_model_without_a_speed_is_refused_with_the_flag_that_helps():
    with pytest.raises(InputError, match=r"no speed is known for the model 'parakeet'; give one with --rtf parakeet"):
        PAPER_SPEEDS.real_time_factor("parakeet")
    assert override_speeds(PAPER_SPEEDS, {"parakeet": 0.01}).real_time_factor("parakeet") == 0.01


def test_what_was_measured_goes_before_what_was_published():
    results = [result("tiny.en", rtf, load=2, transcribe=50, write=1) for rtf in (0.1, 0.3, 0.2)]
    learnt = measure_speeds(results, FASTER_WHISPER_SPEEDS)
    assert learnt.real_time_factor("tiny.en") == 0.2
    assert learnt.startup_seconds == 3
    assert learnt.real_time_factor("large") == FASTER_WHISPER_SPEEDS.real_time_factor("large")
    with pytest.raises(InputError, match="no finished transcript"):
        measure_speeds([], FASTER_WHISPER_SPEEDS)
