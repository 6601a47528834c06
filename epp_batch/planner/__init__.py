"""Predicts what a run takes on a cluster, in virtual time, and finds an order of submission that suits the cluster.

In: units with their audio lengths (`epp_batch.spec`), a ClusterModel (`objects` builds it from manifests) and a
SpeedModel. Out: timeline events in seconds from the first submission, like those of a real run, and their figures.

`planned_job` turns units into Jobs, `policies` orders them, `simulation` runs them. `scheduler`, `flavor_assigner`,
`preemption` and `quota_tree` decide as Kueue v0.19 does and in its words; `placement` and `mig_slots` place pods as
kube-scheduler, DAS and DRA do. Each Simulation owns all of its state. Nothing here reads a clock, a file or the
network, and nothing here knows a running cluster: that is `epp_batch.controller`.
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
    cluster_model: ClusterModel, jobs: Sequence[PlannedJob], arrivals: Sequence[float] | None = None
) -> list[TimelineEvent]:
    """The timeline of jobs submitted in this order, in seconds from the first; `arrivals` where they are apart."""
    return Simulation(cluster_model, jobs, arrivals).run()


def predict_timeline(
    units: Sequence[Unit],
    cluster: ClusterOptions,
    cluster_model: ClusterModel,
    *,
    speeds: SpeedModel = FASTER_WHISPER_SPEEDS,
    policy: SubmissionPolicy = "submission",
) -> list[TimelineEvent]:
    """The timeline of units on a cluster, in seconds from the first submission.

    A unit that can never run ends with `failed` and the reason. Raises InputError where no length, no speed or no MIG
    profile is known.
    """
    jobs = build_planned_jobs(units, cluster, speeds, cluster_model)
    return simulate_jobs(cluster_model, arrange_jobs(policy, jobs, cluster_model, speeds))


def order_units(
    units: Sequence[Unit],
    cluster: ClusterOptions,
    cluster_model: ClusterModel,
    *,
    speeds: SpeedModel = FASTER_WHISPER_SPEEDS,
    search: SearchOptions | None = None,
) -> list[Unit]:
    """The units in the order of the policy `slots`, for `arrange` of `intake.build_units`."""
    by_name = {unit.name: unit for unit in units}
    jobs = build_planned_jobs(units, cluster, speeds, cluster_model)
    return [by_name[job.unit] for job in arrange_jobs("slots", jobs, cluster_model, speeds, search)]
