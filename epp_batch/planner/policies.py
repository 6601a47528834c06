"""Chooses the order in which Jobs are submitted, and their MIG profiles where these are free to choose.

Kueue admits by priority and then by creation, and DAS and DRA take the first slots that fit. So the order of submission
decides where every Job lands, without any change to the cluster. Kueue compares creations in whole seconds and by UID
within one, so an order counts only for Jobs that are created at least a second apart.

The search (`slots`) starts from orders that are known to be good and improves the best of them by moving single jobs
and swapping pairs; the cost of an order is computed from the simulation that also predicts the run. It is deterministic
for a seed and a number of evaluations. `mixed` also gives the longest jobs a whole GPU each, as many as pays: a slice
slows a recording down, and the longest one alone may decide the makespan.
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
from epp_batch.planner.timeline_stats import compute_makespan_bound, compute_timeline_stats

SubmissionPolicy = Literal["submission", "longest", "slots", "mixed"]
SUBMISSION_POLICIES: tuple[SubmissionPolicy, ...] = ("submission", "longest", "slots", "mixed")
MAX_WIDENED_JOBS = 8
"""Most jobs that `mixed` tries on whole GPUs."""


class SearchObjective(msgspec.Struct, frozen=True, kw_only=True):
    """What the search minimises: a weighted sum, each part relative to a lower bound of it."""

    makespan_weight: float = 1.0
    mean_weight: float = 1.0


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Objective and effort of a search."""

    objective: SearchObjective = SearchObjective()
    evaluations: int = 4000
    """Simulations at most; fewer beyond 64 jobs, so that the time stays about the same."""
    seed: int = 1


def arrange_jobs(
    policy: SubmissionPolicy,
    jobs: Sequence[PlannedJob],
    cluster_model: ClusterModel,
    speeds: SpeedModel = PAPER_SPEEDS,
    search: SearchOptions | None = None,
) -> list[PlannedJob]:
    """The jobs in the order of a policy; `mixed` returns some of them with another MIG profile."""
    if policy == "longest":
        return sorted(jobs, key=lambda job: -job.duration_seconds)
    if policy == "slots":
        return _search_order(list(jobs), cluster_model, search or SearchOptions())
    if policy == "mixed":
        return _arrange_mixed(jobs, cluster_model, speeds, search or SearchOptions())
    return list(jobs)


def initial_orders(jobs: Sequence[PlannedJob]) -> list[list[PlannedJob]]:
    """Starting points of the search: as given; longest, shortest, widest, narrowest first; by duration times slots."""
    keys: tuple[Callable[[PlannedJob], tuple[float, ...]], ...] = (
        lambda job: (-job.duration_seconds,),
        lambda job: (job.duration_seconds,),
        lambda job: (-job.gpu_slots, -job.duration_seconds),
        lambda job: (job.gpu_slots, -job.duration_seconds),
        lambda job: (-job.gpu_slots * job.duration_seconds,),
        lambda job: (job.gpu_slots * job.duration_seconds,),
    )
    return [list(jobs), *(sorted(jobs, key=key) for key in keys)]


def _search_order(jobs: list[PlannedJob], cluster_model: ClusterModel, search: SearchOptions) -> list[PlannedJob]:
    if len(jobs) < 2:
        return jobs
    cost_model = _CostModel(jobs, cluster_model, search.objective)
    best = min(initial_orders(jobs), key=cost_model)
    best_cost = cost_model(best)
    rng = random.Random(search.seed)
    for _ in range(min(search.evaluations, search.evaluations * 64 // len(jobs))):
        order = _random_neighbour(best, rng)
        cost = cost_model(order)
        if cost <= best_cost:
            best, best_cost = order, cost
    return best


def _arrange_mixed(
    jobs: Sequence[PlannedJob], cluster_model: ClusterModel, speeds: SpeedModel, search: SearchOptions
) -> list[PlannedJob]:
    """Chooses the number of whole GPUs by the initial orders, then searches the order for that number."""
    cost_model = _CostModel(jobs, cluster_model, search.objective)
    variants = [
        widen_longest_jobs(jobs, cluster_model, speeds, count) for count in range(min(MAX_WIDENED_JOBS, len(jobs)) + 1)
    ]
    best = min(variants, key=lambda variant: min(cost_model(order) for order in initial_orders(variant)))
    return _search_order(best, cluster_model, search)


def widen_longest_jobs(
    jobs: Sequence[PlannedJob], cluster_model: ClusterModel, speeds: SpeedModel, count: int
) -> list[PlannedJob]:
    """The jobs, the `count` longest of them on the MIG profile of a whole GPU where nodes can create one."""
    longest = {job.unit for job in sorted(jobs, key=lambda job: -job.duration_seconds)[:count]}
    return [
        widen_to_whole_gpu(job, cluster_model, speeds.slowdown_on_slice(job.accelerator.compute_slices)) or job
        if job.unit in longest
        else job
        for job in jobs
    ]


def _random_neighbour(order: list[PlannedJob], rng: random.Random) -> list[PlannedJob]:
    """The order with two jobs swapped or one moved."""
    neighbour = list(order)
    i, j = rng.sample(range(len(neighbour)), 2)
    if rng.random() < 0.5:
        neighbour[i], neighbour[j] = neighbour[j], neighbour[i]
    else:
        neighbour.insert(j, neighbour.pop(i))
    return neighbour


class _CostModel:
    """The cost of an order, by simulation."""

    def __init__(self, jobs: Sequence[PlannedJob], cluster_model: ClusterModel, objective: SearchObjective) -> None:
        self.cluster_model, self.objective = cluster_model, objective
        self.makespan_bound = max(compute_makespan_bound(jobs, cluster_model.nodes), 1e-9)
        self.mean_duration = max(sum(job.duration_seconds for job in jobs) / len(jobs), 1e-9)

    def __call__(self, order: Sequence[PlannedJob]) -> float:
        stats = compute_timeline_stats(Simulation(self.cluster_model, order).run())
        return (
            self.objective.makespan_weight * stats.makespan / self.makespan_bound
            + self.objective.mean_weight * stats.mean / self.mean_duration
            + stats.failed
        )
