"""Speeds: the fit to the paper, published figures, what was measured."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.output_folder import Result
from epp_batch.planner.speed import FASTER, PAPER, measured, size, with_factors
from epp_batch.spec import Options


def result(model: str, rtf: float, **timings: float) -> Result:
    return Result(
        key="k", source="s", sha256="", model=model, options=Options(), audio_seconds=100, rtf=rtf, timings=timings
    )


def test_a_slice_is_slower_by_one_factor_and_the_whole_gpu_by_none():
    assert PAPER.seconds("large", 1000) == pytest.approx(266)
    assert PAPER.seconds("medium", 1000, 1) == pytest.approx(133 * 1.44)
    assert PAPER.seconds("large", 1000, 3) == pytest.approx(266 * 1.44)
    assert PAPER.seconds("large", 1000, 7) == pytest.approx(266)


def test_batches_slow_down_with_their_share_of_multiprocessors():
    assert FASTER.seconds("large", 1000, 1) == pytest.approx(7 * FASTER.seconds("large", 1000))


@pytest.mark.parametrize(
    ("name", "known"),
    [("large-v3-turbo", "turbo"), ("/models/faster-whisper-large-v3/", "large"), ("medium.en", "medium"), ("x", "x")],
)
def test_a_model_counts_as_the_size_in_its_name(name, known):
    assert size(name) == known


def test_a_model_without_a_speed_is_refused_with_the_flag_that_helps():
    with pytest.raises(InputError, match=r"no speed is known for the model 'parakeet'; give one with --rtf parakeet"):
        PAPER.factor("parakeet")
    assert with_factors(PAPER, {"parakeet": 0.01}).factor("parakeet") == 0.01


def test_what_was_measured_goes_before_what_was_published():
    results = [result("tiny.en", rtf, load=2, transcribe=50, write=1) for rtf in (0.1, 0.3, 0.2)]
    learnt = measured(results, FASTER)
    assert learnt.factor("tiny.en") == 0.2
    assert learnt.startup == 3
    assert learnt.factor("large") == FASTER.factor("large")
    with pytest.raises(InputError, match="no finished transcript"):
        measured([], FASTER)
