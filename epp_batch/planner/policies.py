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

from epp_batch.planner.cluster_model import ClusterModel
from epp_batch.planner.planned_job import PlannedJob, widen_to_whole_gpu
from epp_batch.planner.simulation import Simulation
from epp_batch.planner.speed import PAPER_SPEEDS, SpeedModel
from epp_batch.planner.timeline_stats import TimelineStats, compute_makespan_bound, compute_timeline_stats

SubmissionPolicy = Literal["submission", "longest", "slots", "mixed"]
SUBMISSION_POLICIES: tuple[SubmissionPolicy, ...] = ("submission", "longest", "slots", "mixed")
MAX_WIDENED_JOBS = 8
"""Most units that `mixed` tries to give whole GPUs to."""


class SearchObjective(msgspec.Struct, frozen=True, kw_only=True):
    """What the search makes small: both in units of what a lower bound says, weighted."""

    makespan_weight: float = 1.0
    mean_weight: float = 1.0


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to look."""

    objective: SearchObjective = SearchObjective()
    evaluations: int = 4000
    """Simulations; fewer for many units, so that the work stays about the same."""
    seed: int = 1


def arrange_jobs(
    policy: SubmissionPolicy,
    demands: Sequence[PlannedJob],
    world: ClusterModel,
    speeds: SpeedModel = PAPER_SPEEDS,
    search: SearchOptions | None = None,
) -> list[PlannedJob]:
    """The demands in the order of a policy; `mixed` returns some of them on other slices."""
    if policy == "longest":
        return sorted(demands, key=lambda demand: -demand.duration_seconds)
    if policy == "slots":
        return _search_order(list(demands), world, search or SearchOptions())
    if policy == "mixed":
        return _arrange_mixed(demands, world, speeds, search or SearchOptions())
    return list(demands)


def initial_orders(demands: Sequence[PlannedJob]) -> list[list[PlannedJob]]:
    """Orders that are good for something: as given, longest, shortest, widest and narrowest first, by area."""
    keys: tuple[Callable[[PlannedJob], tuple[float, ...]], ...] = (
        lambda demand: (-demand.duration_seconds,),
        lambda demand: (demand.duration_seconds,),
        lambda demand: (-demand.gpu_slots, -demand.duration_seconds),
        lambda demand: (demand.gpu_slots, -demand.duration_seconds),
        lambda demand: (-demand.gpu_slots * demand.duration_seconds,),
        lambda demand: (demand.gpu_slots * demand.duration_seconds,),
    )
    return [list(demands), *(sorted(demands, key=key) for key in keys)]


def _search_order(demands: list[PlannedJob], world: ClusterModel, search: SearchOptions) -> list[PlannedJob]:
    if len(demands) < 2:
        return demands
    judge = _CostModel(demands, world, search.objective)
    order = min(initial_orders(demands), key=judge)
    cost = judge(order)
    chance = random.Random(search.seed)
    for _ in range(min(search.evaluations, search.evaluations * 64 // len(demands))):
        tried = _random_neighbour(order, chance)
        found = judge(tried)
        if found <= cost:
            order, cost = tried, found
    return order


def _arrange_mixed(
    demands: Sequence[PlannedJob], world: ClusterModel, speeds: SpeedModel, search: SearchOptions
) -> list[PlannedJob]:
    """The number of wide units by the known good orders, then the search for the best number."""
    judge = _CostModel(demands, world, search.objective)
    tries = [
        widen_longest_jobs(demands, world, speeds, count) for count in range(min(MAX_WIDENED_JOBS, len(demands)) + 1)
    ]
    best = min(tries, key=lambda tried: min(judge(order) for order in initial_orders(tried)))
    return _search_order(best, world, search)


def widen_longest_jobs(
    demands: Sequence[PlannedJob], world: ClusterModel, speeds: SpeedModel, count: int
) -> list[PlannedJob]:
    """The `count` longest on whole GPUs, where nodes can give them as slices."""
    longest = {demand.unit for demand in sorted(demands, key=lambda demand: -demand.duration_seconds)[:count]}
    return [
        widen_to_whole_gpu(demand, world, speeds.slowdown_on_slice(demand.accelerator.compute_slices)) or demand
        if demand.unit in longest
        else demand
        for demand in demands
    ]


def _random_neighbour(order: list[PlannedJob], chance: random.Random) -> list[PlannedJob]:
    """One unit moved, or two exchanged."""
    tried = list(order)
    i, j = chance.sample(range(len(tried)), 2)
    if chance.random() < 0.5:
        tried[i], tried[j] = tried[j], tried[i]
    else:
        tried.insert(j, tried.pop(i))
    return tried


class _CostModel:
    """What an order costs."""

    def __init__(self, demands: Sequence[PlannedJob], world: ClusterModel, aim: SearchObjective) -> None:
        self.cluster_model, self.objective = world, aim
        self.makespan_bound = max(compute_makespan_bound(demands, world.nodes), 1e-9)
        self.mean_duration = max(sum(demand.duration_seconds for demand in demands) / len(demands), 1e-9)

    def __call__(self, order: Sequence[PlannedJob]) -> float:
        found: TimelineStats = compute_timeline_stats(Simulation(self.cluster_model, order).run())
        return (
            self.objective.makespan_weight * found.makespan / self.makespan_bound
            + self.objective.mean_weight * found.mean / self.mean_duration
            + found.failed
        )
