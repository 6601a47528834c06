"""One decision in N is timed."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from epp.api import Profile
from epp.clock import ManualClock
from epp.requestcontrol.interfaces import Recorder
from epp.scheduling.plugin_timing import Sampler
from epp.scheduling.profile_run import run
from epp.testing import endpoints, request
from scorers.pickers.max_score import MaxScore


class Notes:
    """The one method of a recorder that is used here."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def plugin(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.seen.append((extension_point, type, name, seconds))


def test_one_in_three() -> None:
    notes = Notes()
    sampler = Sampler(ManualClock(), cast(Recorder, notes), every=3)
    profile = Profile("p", picker=("best", MaxScore()))
    for _ in range(7):
        run(profile, request(), endpoints(2), Random(1), lambda *_: None, sampler.next())
    assert notes.seen == [("Picker", "max-score-picker", "best", 0.0)] * 3
