"""Packing of speech into windows, and mapping times back to the recording."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.worker.windows import MAX_WINDOW_SECONDS, SpeechWindow, pack_windows


def test_window_leaves_silence_out():
    (window,) = pack_windows([(0.0, 10.0), (100.0, 115.0)])
    assert window.spans == ((0.0, 10.0), (100.0, 115.0))
    assert window.seconds == 25.0
    assert window.end == 115.0


def test_span_that_does_not_fit_begins_a_new_window():
    assert [window.spans for window in pack_windows([(0.0, 20.0), (21.0, 32.0), (33.0, 40.0)])] == [
        ((0.0, 20.0),),
        ((21.0, 32.0), (33.0, 40.0)),
    ]


def test_span_longer_than_a_window_is_cut():
    assert [window.spans for window in pack_windows([(5.0, 70.0)])] == [
        ((5.0, 35.0),),
        ((35.0, 65.0),),
        ((65.0, 70.0),),
    ]


def test_no_speech_gives_no_windows():
    assert pack_windows([]) == []


@pytest.mark.parametrize(
    ("joined", "recorded"),
    [
        ((1.0, 2.0), (1.0, 2.0)),
        ((11.0, 12.0), (101.0, 102.0)),
        ((9.8, 10.4), (100.0, 100.4)),  # across the seam: the span of its midpoint
        ((9.5, 10.1), (9.5, 10.0)),
        ((24.0, 26.0), (114.0, 115.0)),  # past the end
        ((-0.2, 0.3), (0.0, 0.3)),
    ],
)
def test_restore_span(joined, recorded):
    assert SpeechWindow(((0.0, 10.0), (100.0, 115.0))).restore_span(*joined) == recorded


SPEECH = st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.1, 50.0)), max_size=30)


@given(SPEECH)
def test_packing_keeps_all_speech_in_order_within_the_limit(gaps):
    spans, now = [], 0.0
    for gap, length in gaps:
        start = now + gap
        now = start + length
        spans.append((start, now))
    windows = pack_windows(spans)
    flat = [span for window in windows for span in window.spans]
    assert all(window.seconds <= MAX_WINDOW_SECONDS + 1e-6 for window in windows)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(flat))
    assert sum(end - start for start, end in flat) == pytest.approx(sum(length for _, length in gaps))
