"""In which order to submit: as given, longest first, or searched for; and on what, where slices can be chosen.

Kueue admits by priority and then by creation, and DAS and DRA take the first place that fits, so the order of
submission is what decides where everything lands, without any change to the cluster. Kueue tells creations apart by
whole seconds, and takes those of one second in any order: an order counts where Jobs are a second apart.

`mixed` also gives the longest units a whole GPU each, as many as pays: a slice slows a recording down, and the longest
one alone may decide the makespan.

The search starts from the known good orders and improves the best by moving single units and swapping pairs, with the
very simulation that predicts the run as its judge. It is deterministic for a given seed and number of evaluations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from epp_batch.planner.demand import Demand, widest
from epp_batch.planner.outcome import Outcome, bound, outcome
from epp_batch.planner.simulation import Simulation
from epp_batch.planner.speed import PAPER, Speeds
from epp_batch.planner.world import World

Policy = Literal["submission", "longest", "slots", "mixed"]
POLICIES: tuple[Policy, ...] = ("submission", "longest", "slots", "mixed")
WIDENED = 8
"""Most units that `mixed` tries to give whole GPUs to."""


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What the search makes small: both in units of what a lower bound says, weighted."""

    makespan: float = 1.0
    mean: float = 1.0


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to look."""

    aim: Aim = Aim()
    evaluations: int = 4000
    """Simulations; fewer for many units, so that the work stays about the same."""
    seed: int = 1


def arrange(
    policy: Policy, demands: Sequence[Demand], world: World, speeds: Speeds = PAPER, search: Search | None = None
) -> list[Demand]:
    """The demands in the order of a policy; `mixed` returns some of them on other slices."""
    if policy == "longest":
        return sorted(demands, key=lambda demand: -demand.seconds)
    if policy == "slots":
        return _search(list(demands), world, search or Search())
    if policy == "mixed":
        return _mixed(demands, world, speeds, search or Search())
    return list(demands)


def starts(demands: Sequence[Demand]) -> list[list[Demand]]:
    """Orders that are good for something: as given, longest, shortest, widest and narrowest first, by area."""
    keys: tuple[Callable[[Demand], tuple[float, ...]], ...] = (
        lambda demand: (-demand.seconds,),
        lambda demand: (demand.seconds,),
        lambda demand: (-demand.slots, -demand.seconds),
        lambda demand: (demand.slots, -demand.seconds),
        lambda demand: (-demand.slots * demand.seconds,),
        lambda demand: (demand.slots * demand.seconds,),
    )
    return [list(demands), *(sorted(demands, key=key) for key in keys)]


def _search(demands: list[Demand], world: World, search: Search) -> list[Demand]:
    if len(demands) < 2:
        return demands
    judge = _Judge(demands, world, search.aim)
    order = min(starts(demands), key=judge)
    cost = judge(order)
    chance = random.Random(search.seed)
    for _ in range(min(search.evaluations, search.evaluations * 64 // len(demands))):
        tried = _neighbour(order, chance)
        found = judge(tried)
        if found <= cost:
            order, cost = tried, found
    return order


def _mixed(demands: Sequence[Demand], world: World, speeds: Speeds, search: Search) -> list[Demand]:
    """The number of wide units by the known good orders, then the search for the best number."""
    judge = _Judge(demands, world, search.aim)
    tries = [widened(demands, world, speeds, count) for count in range(min(WIDENED, len(demands)) + 1)]
    best = min(tries, key=lambda tried: min(judge(order) for order in starts(tried)))
    return _search(best, world, search)


def widened(demands: Sequence[Demand], world: World, speeds: Speeds, count: int) -> list[Demand]:
    """The `count` longest on whole GPUs, where nodes can give them as slices."""
    longest = {demand.unit for demand in sorted(demands, key=lambda demand: -demand.seconds)[:count]}
    return [
        widest(demand, world, speeds.slowdown(demand.shape.compute)) or demand if demand.unit in longest else demand
        for demand in demands
    ]


def _neighbour(order: list[Demand], chance: random.Random) -> list[Demand]:
    """One unit moved, or two exchanged."""
    tried = list(order)
    i, j = chance.sample(range(len(tried)), 2)
    if chance.random() < 0.5:
        tried[i], tried[j] = tried[j], tried[i]
    else:
        tried.insert(j, tried.pop(i))
    return tried


class _Judge:
    """What an order costs."""

    def __init__(self, demands: Sequence[Demand], world: World, aim: Aim) -> None:
        self.world, self.aim = world, aim
        self.least = max(bound(demands, world.nodes), 1e-9)
        self.shortest = max(sum(demand.seconds for demand in demands) / len(demands), 1e-9)

    def __call__(self, order: Sequence[Demand]) -> float:
        found: Outcome = outcome(Simulation(self.world, order).run())
        return (
            self.aim.makespan * found.makespan / self.least + self.aim.mean * found.mean / self.shortest + found.failed
        )
