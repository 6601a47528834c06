"""Choice of decodings, speech detection in blocks, compute types. Transcription itself: test_transcription_task.py."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from faster_whisper.transcribe import Segment

from epp_batch.worker.audio import SAMPLE_RATE, decode_audio
from epp_batch.worker.whisper import choose_decoding, detect_speech, is_doubtful, resolve_compute_type
from tests.speech import synthesize_wav


def decoded(*, ratio=1.2, log=-0.3, silence=0.05):
    return Segment(
        id=1, seek=0, start=0.0, end=1.0, text=" no", tokens=[1], avg_logprob=log, compression_ratio=ratio,
        no_speech_prob=silence, words=None, temperature=0.0,
    )  # fmt: skip


GOOD, LOOP, GUESS = decoded(), decoded(ratio=16.0), decoded(log=-1.4)


def test_repetitive_or_improbable_decodings_are_doubtful():
    assert [is_doubtful(raw) for raw in (GOOD, LOOP, GUESS)] == [False, True, True]


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
def test_choose_decoding(first, second, kept):
    assert choose_decoding(first, second) == ([first] if kept == "first" else second)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    text = "One sentence is here. Another one follows. A third one comes, with a comma. The fourth is the last of them."
    path = synthesize_wav(text, tmp_path_factory.mktemp("speech") / "a.wav")
    return decode_audio(path, "a.wav", lambda: None)


def spans_of(windows):
    return [span for window in windows for span in window.spans]


@pytest.mark.parametrize("block", [2.0, 3.0, 5.0])
def test_detection_in_blocks_finds_the_same_speech(samples, block):
    checks = []
    whole, parts = detect_speech(samples, lambda: None), detect_speech(samples, lambda: checks.append(1), block)
    assert len(checks) >= len(samples) / SAMPLE_RATE / block
    assert sum(window.seconds for window in parts) == pytest.approx(sum(window.seconds for window in whole), rel=0.1)
    assert all(first[1] <= second[0] for first, second in pairwise(spans_of(parts)))
    assert spans_of(parts)[-1][1] == pytest.approx(spans_of(whole)[-1][1], abs=0.5)


def test_silence_has_no_windows():
    assert detect_speech(np.zeros(5 * SAMPLE_RATE, np.float32), lambda: None, 2.0) == []
    assert detect_speech(np.zeros(0, np.float32), lambda: None) == []


def test_default_compute_type():
    assert resolve_compute_type("default") in {"int8", "float16"}
    assert resolve_compute_type("float32") == "float32"
