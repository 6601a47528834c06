"""Under which assumptions the paper's makespan change of -15 % is reproduced.

Two unknowns decide: the order in which the default scheduler started the pods, and how much slower large is than
medium.
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
"""Of the paper's best queue against the default scheduler."""
PAPER_MEAN_COMPLETION = 28 * 60.0
"""On whole GPUs, in seconds; every ratio is fitted to it."""
ARMS_BY_NAME = {arm.name: arm for arm in ARMS}


class NativeOrders(NamedTuple):
    """Makespans of the default scheduler, in seconds: of named orders, and of random ones, ascending."""

    by_name: dict[str, float]
    shuffled: list[float]
    best_queue: float
    """Makespan of the paper's best queue."""

    def change_against(self, native: float) -> float:
        """Relative change of the best queue against a native makespan; -0.15 is 15 % less."""
        return self.best_queue / native - 1

    @property
    def mean(self) -> float:
        """Of the random orders."""
        return statistics.fmean(self.shuffled)

    @property
    def share_reaching_paper_change(self) -> float:
        """Share of random orders against which the change is the paper's or better."""
        reaching = sum(self.change_against(native) <= PAPER_MAKESPAN_CHANGE for native in self.shuffled)
        return reaching / len(self.shuffled)


def simulate_native_orders(count: int, seed: int = 1) -> NativeOrders:
    """Runs the 32 jobs on the default scheduler in named orders and in `count` random ones."""
    arm = ARMS_BY_NAME[NATIVE]
    cluster_model = build_arm_cluster(arm, ControlPlaneDelays(submit_interval=SUBMIT_INTERVAL))
    submitted = build_arm_jobs(arm, cluster_model, PAPER_SPEEDS)
    medium, large = ([job for job in submitted if job.model == model] for model in ("medium", "large"))
    named = {
        "as submitted": submitted,
        "as submitted, backwards": submitted[::-1],
        "all medium, then all large": medium + large,
        "all large, then all medium": large + medium,
        "longest first": sorted(submitted, key=lambda job: -job.duration_seconds),
        "shortest first": sorted(submitted, key=lambda job: job.duration_seconds),
    }
    rng = random.Random(seed)
    shuffled = sorted(_simulate_makespan(cluster_model, rng.sample(submitted, len(submitted))) for _ in range(count))
    best = simulate_arm(ARMS_BY_NAME[BEST_QUEUE], PAPER_SPEEDS, SearchOptions()).stats.makespan
    by_name = {name: _simulate_makespan(cluster_model, order) for name, order in named.items()}
    return NativeOrders(by_name, shuffled, best)


def _simulate_makespan(cluster_model: ClusterModel, order: Sequence[PlannedJob]) -> float:
    return compute_timeline_stats(simulate_jobs(cluster_model, order)).makespan


class RatioFit(NamedTuple):
    """Large `ratio` times slower than medium: the fitted real-time factor, and makespans with it in seconds."""

    ratio: float
    medium: float
    """Real-time factor of medium."""
    native: float
    best_queue: float
    longest: float
    """One queue, longest first."""


def fit_ratios(values: Sequence[float] = (2, 3, 4, 5, 6)) -> list[RatioFit]:
    """Repeats the fit to the paper's mean completion for other ratios between the models."""
    return [_fit_ratio(ratio) for ratio in values]


def _fit_ratio(ratio: float) -> RatioFit:
    """Finds the real-time factor of medium by bisection."""
    low, high = 0.01, 0.5
    for _ in range(30):
        middle = (low + high) / 2
        if _simulate_native(_speeds_at_ratio(ratio, middle)).mean > PAPER_MEAN_COMPLETION:
            high = middle
        else:
            low = middle
    speeds = _speeds_at_ratio(ratio, low)
    native = _simulate_native(speeds)
    best = simulate_arm(ARMS_BY_NAME[BEST_QUEUE], speeds, SearchOptions()).stats
    longest = simulate_arm(ARMS_BY_NAME["Kueue A"]._replace(policy="longest"), speeds, SearchOptions()).stats
    return RatioFit(ratio, low, native.makespan, best.makespan, longest.makespan)


def _speeds_at_ratio(ratio: float, medium: float) -> SpeedModel:
    return override_speeds(PAPER_SPEEDS, {"medium": medium, "large": medium * ratio})


def _simulate_native(speeds: SpeedModel) -> TimelineStats:
    return simulate_arm(ARMS_BY_NAME[NATIVE], speeds, SearchOptions()).stats
