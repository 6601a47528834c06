"""What a run would take on a cluster, in virtual time: Kueue, the scheduler, slices, and the order that suits them.

Pure: no clock, no files, no network. `objects.world` reads a cluster from its Kubernetes objects, `demands` says what
units ask of it, `arrange` puts them in order, `predict` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from epp_batch.planner.cluster_model import (
    ClusterModel,
    ControlPlaneDelays,
    GpuNode,
    GpuSharing,
    KueueObjects,
    build_gpu_nodes,
)
from epp_batch.planner.planned_job import PlannedJob, build_planned_jobs
from epp_batch.planner.policies import (
    SUBMISSION_POLICIES,
    SearchObjective,
    SearchOptions,
    SubmissionPolicy,
    arrange_jobs,
)
from epp_batch.planner.simulation import Simulation
from epp_batch.planner.speed import FASTER_WHISPER_SPEEDS, PAPER_SPEEDS, SpeedModel
from epp_batch.planner.timeline_stats import TimelineStats, compute_makespan_bound, compute_timeline_stats
from epp_batch.spec import ClusterOptions, Unit
from epp_batch.timeline import TimelineEvent

__all__ = [
    "FASTER_WHISPER_SPEEDS", "PAPER_SPEEDS", "SUBMISSION_POLICIES", "ClusterModel", "ControlPlaneDelays", "GpuNode",
    "GpuSharing", "KueueObjects", "PlannedJob", "SearchObjective", "SearchOptions", "SpeedModel", "SubmissionPolicy",
    "TimelineStats", "arrange_jobs", "build_gpu_nodes", "build_planned_jobs", "compute_makespan_bound",
    "compute_timeline_stats", "order_units", "predict_timeline", "simulate_jobs",
]  # fmt: skip


def simulate_jobs(
    world: ClusterModel, demands: Sequence[PlannedJob], arrivals: Sequence[float] | None = None
) -> list[TimelineEvent]:
    """The timeline of demands in this order, in seconds from the first; `arrivals` where they do not come at once."""
    return Simulation(world, demands, arrivals).run()


def predict_timeline(
    units: Sequence[Unit],
    cluster: ClusterOptions,
    world: ClusterModel,
    *,
    speeds: SpeedModel = FASTER_WHISPER_SPEEDS,
    policy: SubmissionPolicy = "submission",
) -> list[TimelineEvent]:
    """The timeline of these units on that cluster, in seconds from the first submission.

    A unit that could never run ends as `failed` with the reason. Raises InputError where a length, a speed or a slice
    is not known.
    """
    wanted = build_planned_jobs(units, cluster, speeds, world)
    return simulate_jobs(world, arrange_jobs(policy, wanted, world, speeds))


def order_units(
    units: Sequence[Unit],
    cluster: ClusterOptions,
    world: ClusterModel,
    *,
    speeds: SpeedModel = FASTER_WHISPER_SPEEDS,
    search: SearchOptions | None = None,
) -> list[Unit]:
    """The units in the order in which to submit them onto slices; for `intake.units(arrange=…)`."""
    by_name = {unit.name: unit for unit in units}
    found = arrange_jobs("slots", build_planned_jobs(units, cluster, speeds, world), world, speeds, search)
    return [by_name[demand.unit] for demand in found]
