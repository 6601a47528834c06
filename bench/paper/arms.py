"""The configurations that are compared, the paper's and ours, all on one node with eight A100 of 40 GB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bench.paper import jobs
from epp_batch.manifests import queues
from epp_batch.planner import (
    ClusterModel,
    ControlPlaneDelays,
    PlannedJob,
    SearchOptions,
    SpeedModel,
    SubmissionPolicy,
    TimelineStats,
    arrange_jobs,
    build_gpu_nodes,
    build_planned_jobs,
    compute_makespan_bound,
    compute_timeline_stats,
    objects,
    simulate_jobs,
)
from epp_batch.timeline import TimelineEvent

WHOLE_GPUS = {"medium": "gpu", "large": "gpu"}
MIG_SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}
NATIVE, BEST_QUEUE, DAS = "native", "Kueue C", "DAS"


class Arm(NamedTuple):
    """One configuration. `preset` is that of `epp-batch queues`; empty for the default scheduler alone."""

    name: str
    description: str
    accelerators: Mapping[str, str]
    preset: str = ""
    policy: SubmissionPolicy = "submission"
    ours: bool = False
    """Not one of the paper's."""

    @property
    def runs_on_control_plane(self) -> bool:
        """Whether `real` can play it: whole GPUs with a queue, or slices, which it plays as claims without a queue."""
        return self.accelerators is MIG_SLICES or bool(self.preset)


ARMS = (
    Arm(NATIVE, "whole GPUs, default scheduler, first come first served", WHOLE_GPUS),
    Arm("Kueue A", "whole GPUs, one queue", WHOLE_GPUS, "paper-a"),
    Arm("Kueue B", "whole GPUs, two queues in a cohort", WHOLE_GPUS, "paper-b"),
    Arm(BEST_QUEUE, "whole GPUs, one queue, large preempts medium", WHOLE_GPUS, "paper-c"),
    Arm(DAS, "slices 1g.5gb and 3g.20gb, first fit, no queue", MIG_SLICES),
    Arm("ours, whole GPUs", "one queue, order by search", WHOLE_GPUS, "paper-a", "slots", ours=True),
    Arm("ours, same slices", "a quota of slots, order by search", MIG_SLICES, "slots", "slots", ours=True),
    Arm("ours, slices chosen", "the same, whole GPUs for the longest", MIG_SLICES, "slots", "mixed", ours=True),
)


class ArmResult(NamedTuple):
    """One arm's simulated run."""

    arm: Arm
    cluster_model: ClusterModel
    order: list[PlannedJob]
    events: list[TimelineEvent]
    stats: TimelineStats
    bound: float
    """Of the makespan, in seconds."""

    @property
    def uses_kueue(self) -> bool:
        """Whether `real` plays it through Kueue."""
        return self.cluster_model.kueue is not None and self.arm.accelerators is not MIG_SLICES


def build_arm_cluster(arm: Arm, delays: ControlPlaneDelays, *, resume: bool = False) -> ClusterModel:
    """The node and the arm's queues; with `resume`, preempted workers continue where they were."""
    nodes = build_gpu_nodes(sharing="das" if arm.accelerators is MIG_SLICES else "whole")
    if not arm.preset:
        return ClusterModel(nodes=nodes, delays=delays, resume_after_preemption=resume)
    setup = queues.build_preset(arm.preset, "batch", 8)
    configuration = queues.build_manager_configuration(setup)
    manifests = [*queues.build_kueue_objects(setup), *([configuration] if configuration else [])]
    cluster_model = objects.build_cluster_model(manifests, nodes=nodes)
    return msgspec.structs.replace(cluster_model, delays=delays, resume_after_preemption=resume)


def build_arm_jobs(arm: Arm, cluster_model: ClusterModel, speeds: SpeedModel) -> list[PlannedJob]:
    """The jobs with the arm's accelerators and queues, in the paper's order."""
    priority = "high-priority" if arm.preset == "paper-c" else ""
    queue = "whisper" if arm.preset == "slots" else ""
    cluster = jobs.build_cluster(arm.accelerators, queue, priority)
    return build_planned_jobs(jobs.load_units(), cluster, speeds, cluster_model)


def simulate_arm(
    arm: Arm, speeds: SpeedModel, search: SearchOptions, delays: ControlPlaneDelays | None = None
) -> ArmResult:
    """Runs one arm in virtual time. The paper's worker starts over when it is preempted."""
    cluster_model = build_arm_cluster(arm, delays or ControlPlaneDelays(submit_interval=jobs.SUBMIT_INTERVAL))
    planned_jobs = build_arm_jobs(arm, cluster_model, speeds)
    order = arrange_jobs(arm.policy, planned_jobs, cluster_model, speeds, search)
    events = simulate_jobs(cluster_model, order)
    bound = compute_makespan_bound(order, cluster_model.nodes)
    return ArmResult(arm, cluster_model, order, events, compute_timeline_stats(events), bound)
