"""Under which reading of "native" the paper's -15 % of makespan comes out.

Two unknowns decide: in which order the plain scheduler started the pods, and how much slower large is than medium.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench.paper.arms import ARMS, BEST_QUEUE, NATIVE, build_arm_cluster, build_arm_jobs, simulate_arm
from bench.paper.jobs import SUBMIT_INTERVAL
from epp_batch.planner import (
    PAPER_SPEEDS,
    ClusterModel,
    ControlPlaneDelays,
    PlannedJob,
    SearchOptions,
    SpeedModel,
    TimelineStats,
    compute_timeline_stats,
    simulate_jobs,
)
from epp_batch.planner.speed import override_speeds

PAPER_MAKESPAN_CHANGE = -0.15
PAPER_MEAN_COMPLETION = 28 * 60.0
"""The paper's mean completion on whole GPUs, which every ratio is fitted to again."""
ARMS_BY_NAME = {arm.name: arm for arm in ARMS}


class NativeOrders(NamedTuple):
    """Makespans of the plain scheduler by starting order, seconds, and of many random orders, ascending."""

    by_name: dict[str, float]
    shuffled: list[float]
    best_queue: float

    def gain(self, native: float) -> float:
        """Of the paper's best queue against a native makespan; -0.15 is 15 % less."""
        return self.best_queue / native - 1

    @property
    def mean(self) -> float:
        return statistics.fmean(self.shuffled)

    @property
    def share_reaching_paper_change(self) -> float:
        """Share of random orders against which the gain is at least the paper's."""
        return sum(self.gain(native) <= PAPER_MAKESPAN_CHANGE for native in self.shuffled) / len(self.shuffled)


def simulate_native_orders(count: int, seed: int = 1) -> NativeOrders:
    """The 32 jobs on the plain scheduler in orders that have a name, and in `count` random ones."""
    arm = ARMS_BY_NAME[NATIVE]
    there = build_arm_cluster(arm, ControlPlaneDelays(submit_interval=SUBMIT_INTERVAL))
    given = build_arm_jobs(arm, there, PAPER_SPEEDS)
    medium, large = ([one for one in given if one.model == model] for model in ("medium", "large"))
    named = {
        "as submitted": given,
        "as submitted, backwards": given[::-1],
        "all medium, then all large": medium + large,
        "all large, then all medium": large + medium,
        "longest first": sorted(given, key=lambda one: -one.duration_seconds),
        "shortest first": sorted(given, key=lambda one: one.duration_seconds),
    }
    chance = random.Random(seed)
    shuffled = sorted(_simulate_makespan(there, chance.sample(given, len(given))) for _ in range(count))
    best = simulate_arm(ARMS_BY_NAME[BEST_QUEUE], PAPER_SPEEDS, SearchOptions()).stats.makespan
    return NativeOrders({name: _simulate_makespan(there, order) for name, order in named.items()}, shuffled, best)


def _simulate_makespan(there: ClusterModel, order: Sequence[PlannedJob]) -> float:
    return compute_timeline_stats(simulate_jobs(there, order)).makespan


class RatioFit(NamedTuple):
    """Large so many times slower than medium: the fit, and what the queues then bring against the plain scheduler."""

    ratio: float
    medium: float
    native: float
    best_queue: float
    longest: float


def fit_ratios(values: Sequence[float] = (2, 3, 4, 5, 6)) -> list[RatioFit]:
    """The fit to 28 minutes repeated for other ratios between the models."""
    return [_fit_ratio(value) for value in values]


def _fit_ratio(value: float) -> RatioFit:
    low, high = 0.01, 0.5
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (low, middle)
            if _simulate_native(_speeds_at_ratio(value, middle)).mean > PAPER_MEAN_COMPLETION
            else (middle, high)
        )
    speeds = _speeds_at_ratio(value, low)
    native = _simulate_native(speeds)
    best = simulate_arm(ARMS_BY_NAME[BEST_QUEUE], speeds, SearchOptions()).stats
    longest = simulate_arm(ARMS_BY_NAME["Kueue A"]._replace(policy="longest"), speeds, SearchOptions()).stats
    return RatioFit(value, low, native.makespan, best.makespan, longest.makespan)


def _speeds_at_ratio(ratio: float, medium: float) -> SpeedModel:
    return override_speeds(PAPER_SPEEDS, {"medium": medium, "large": medium * ratio})


def _simulate_native(speeds: SpeedModel) -> TimelineStats:
    return simulate_arm(ARMS_BY_NAME[NATIVE], speeds, SearchOptions()).stats
