"""Speed models: the fit to the paper, published figures, measured transcripts."""

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


def test_slices_are_slower_by_one_factor_in_the_paper_speeds():
    assert PAPER_SPEEDS.transcription_seconds("large", 1000) == pytest.approx(266)
    assert PAPER_SPEEDS.transcription_seconds("medium", 1000, 1) == pytest.approx(133 * 1.44)
    assert PAPER_SPEEDS.transcription_seconds("large", 1000, 3) == pytest.approx(266 * 1.44)
    assert PAPER_SPEEDS.transcription_seconds("large", 1000, 7) == pytest.approx(266)


def test_faster_whisper_slows_down_with_the_share_of_multiprocessors():
    assert FASTER_WHISPER_SPEEDS.transcription_seconds("large", 1000, 1) == pytest.approx(
        7 * FASTER_WHISPER_SPEEDS.transcription_seconds("large", 1000)
    )


@pytest.mark.parametrize(
    ("name", "known"),
    [("large-v3-turbo", "turbo"), ("/models/faster-whisper-large-v3/", "large"), ("medium.en", "medium"), ("x", "x")],
)
def test_model_size_from_name(name, known):
    assert model_size(name) == known


def test_a_model_without_speed_is_rejected_with_a_remedy():
    with pytest.raises(InputError, match=r"no speed is known for model 'parakeet'; give one with --rtf parakeet"):
        PAPER_SPEEDS.real_time_factor("parakeet")
    assert override_speeds(PAPER_SPEEDS, {"parakeet": 0.01}).real_time_factor("parakeet") == 0.01


def test_measured_speeds_replace_published_ones():
    results = [result("tiny.en", rtf, load=2, transcribe=50, write=1) for rtf in (0.1, 0.3, 0.2)]
    learnt = measure_speeds(results, FASTER_WHISPER_SPEEDS)
    assert learnt.real_time_factor("tiny.en") == 0.2
    assert learnt.startup_seconds == 3
    assert learnt.real_time_factor("large") == FASTER_WHISPER_SPEEDS.real_time_factor("large")
    with pytest.raises(InputError, match="no finished transcript"):
        measure_speeds([], FASTER_WHISPER_SPEEDS)
