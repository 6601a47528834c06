"""One decision in N is timed."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from epp.api import SchedulerProfile
from epp.clock import ManualClock
from epp.requestcontrol.interfaces import SchedulingMetrics
from epp.scheduling.plugin_timing import TimingSampler
from epp.scheduling.profile_run import run_profile
from epp.testing import build_endpoints, build_request
from scorers.pickers.max_score import MaxScorePicker


class DurationRecorder:
    """The one method of a recorder that is used here."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def record_plugin_duration(self, extension_point: str, type: str, name: str, seconds: float) -> None:
        self.seen.append((extension_point, type, name, seconds))


def test_one_in_three() -> None:
    notes = DurationRecorder()
    sampler = TimingSampler(ManualClock(), cast(SchedulingMetrics, notes), every=3)
    profile = SchedulerProfile("p", picker=("best", MaxScorePicker()))
    for _ in range(7):
        run_profile(profile, build_request(), build_endpoints(2), Random(1), lambda *_: None, sampler.next_timer())
    assert notes.seen == [("Picker", "max-score-picker", "best", 0.0)] * 3
