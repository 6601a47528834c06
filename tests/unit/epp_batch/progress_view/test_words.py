"""Texts of a status and of durations."""

from __future__ import annotations

import pytest

from epp_batch.progress_view import words
from tests.unit.epp_batch.progress_view.conftest import make_status


def test_status_on_one_line():
    assert words.format_status(make_status()) == (
        "1 of 4 done, 1 running, 2 queued, 1 preempted and 1 evicted; 2 min 10 s of 6 min 40 s of audio, "
        "13.0x real time, 21 s left, next one is number 3 in its queue"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (425, "7 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7980, "2 h 13 min"),
    ],
)
def test_format_of_durations(seconds: float, text: str):
    assert words.format_duration(seconds) == text
