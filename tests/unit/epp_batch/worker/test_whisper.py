"""Which decoding of a window is kept; that Whisper hears is in test_worker.py."""

from __future__ import annotations

import pytest
from faster_whisper.transcribe import Segment

from epp_batch.worker.whisper import better, compute_type, doubtful


def decoded(*, ratio=1.2, log=-0.3, silence=0.05):
    return Segment(
        id=1, seek=0, start=0.0, end=1.0, text=" no", tokens=[1], avg_logprob=log, compression_ratio=ratio,
        no_speech_prob=silence, words=None, temperature=0.0,
    )  # fmt: skip


GOOD, LOOP, GUESS = decoded(), decoded(ratio=16.0), decoded(log=-1.4)


def test_what_is_decoded_again():
    assert [doubtful(raw) for raw in (GOOD, LOOP, GUESS)] == [False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (LOOP, [GOOD, GOOD], "second"),
        (LOOP, [GOOD, decoded(ratio=29.0)], "first"),
        (GUESS, [GOOD], "second"),
        (GUESS, [GOOD, decoded(log=-2.0)], "first"),
        (LOOP, [], "first"),
        (decoded(ratio=16.0, silence=0.9), [], "second"),
    ],
)
def test_the_better_decoding_is_kept(first, second, kept):
    assert better(first, second) == ([first] if kept == "first" else second)


def test_numbers_by_default():
    assert compute_type("default") in {"int8", "float16"}
    assert compute_type("float32") == "float32"
