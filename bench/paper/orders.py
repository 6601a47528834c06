"""Under which reading of "native" the paper's -15 % of makespan comes out.

Two unknowns decide: in which order the plain scheduler started the pods, and how much slower large is than medium.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bench.paper.arms import ARMS, BEST_QUEUE, NATIVE, simulate, wanted, world
from bench.paper.jobs import GAP
from epp_batch.planner import PAPER, Delays, Demand, Outcome, Search, Speeds, World, outcome, run
from epp_batch.planner.speed import with_factors

GOAL = -0.15
MEAN = 28 * 60.0
"""The paper's mean completion on whole GPUs, which every ratio is fitted to again."""
BY_NAME = {arm.name: arm for arm in ARMS}


class Orders(NamedTuple):
    """Makespans of the plain scheduler by starting order, seconds, and of many random orders, ascending."""

    named: dict[str, float]
    shuffled: list[float]
    best_queue: float

    def gain(self, native: float) -> float:
        """Of the paper's best queue against a native makespan; -0.15 is 15 % less."""
        return self.best_queue / native - 1

    @property
    def mean(self) -> float:
        return statistics.fmean(self.shuffled)

    @property
    def share_beyond(self) -> float:
        """Share of random orders against which the gain is at least the paper's."""
        return sum(self.gain(native) <= GOAL for native in self.shuffled) / len(self.shuffled)


def native_orders(count: int, seed: int = 1) -> Orders:
    """The 32 jobs on the plain scheduler in orders that have a name, and in `count` random ones."""
    arm = BY_NAME[NATIVE]
    there = world(arm, Delays(submit=GAP))
    given = wanted(arm, there, PAPER)
    medium, large = ([one for one in given if one.model == model] for model in ("medium", "large"))
    named = {
        "as submitted": given,
        "as submitted, backwards": given[::-1],
        "all medium, then all large": medium + large,
        "all large, then all medium": large + medium,
        "longest first": sorted(given, key=lambda one: -one.seconds),
        "shortest first": sorted(given, key=lambda one: one.seconds),
    }
    chance = random.Random(seed)
    shuffled = sorted(_makespan(there, chance.sample(given, len(given))) for _ in range(count))
    best = simulate(BY_NAME[BEST_QUEUE], PAPER, Search()).figures.makespan
    return Orders({name: _makespan(there, order) for name, order in named.items()}, shuffled, best)


def _makespan(there: World, order: Sequence[Demand]) -> float:
    return outcome(run(there, order)).makespan


class Ratio(NamedTuple):
    """Large so many times slower than medium: the fit, and what the queues then bring against the plain scheduler."""

    ratio: float
    medium: float
    native: float
    best_queue: float
    longest: float


def ratios(values: Sequence[float] = (2, 3, 4, 5, 6)) -> list[Ratio]:
    """The fit to 28 minutes repeated for other ratios between the models."""
    return [_ratio(value) for value in values]


def _ratio(value: float) -> Ratio:
    low, high = 0.01, 0.5
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _native(_speeds(value, middle)).mean > MEAN else (middle, high)
    speeds = _speeds(value, low)
    native = _native(speeds)
    best = simulate(BY_NAME[BEST_QUEUE], speeds, Search()).figures
    longest = simulate(BY_NAME["Kueue A"]._replace(policy="longest"), speeds, Search()).figures
    return Ratio(value, low, native.makespan, best.makespan, longest.makespan)


def _speeds(ratio: float, medium: float) -> Speeds:
    return with_factors(PAPER, {"medium": medium, "large": medium * ratio})


def _native(speeds: Speeds) -> Outcome:
    return simulate(BY_NAME[NATIVE], speeds, Search()).figures
