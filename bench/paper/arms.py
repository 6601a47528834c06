"""What is compared: the paper's configurations and ours, all on one node with eight A100 of 40 GB."""

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
    """One configuration. `preset` names queues of `epp-batch queues`; none for the plain scheduler."""

    name: str
    description: str
    accelerators: Mapping[str, str]
    preset: str = ""
    policy: SubmissionPolicy = "submission"
    ours: bool = False

    @property
    def runs_on_control_plane(self) -> bool:
        """On a real control plane: whole GPUs with a queue, and slices, as claims without one."""
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
    """One arm's run."""

    arm: Arm
    cluster_model: ClusterModel
    order: list[PlannedJob]
    events: list[TimelineEvent]
    stats: TimelineStats
    bound: float

    @property
    def uses_kueue(self) -> bool:
        """Played through real Kueue; slices are played without."""
        return self.cluster_model.kueue is not None and self.arm.accelerators is not MIG_SLICES


def build_arm_cluster(arm: Arm, delays: ControlPlaneDelays, *, resumes: bool = False) -> ClusterModel:
    """The node, with the arm's queues over it."""
    nodes = build_gpu_nodes(sharing="das" if arm.accelerators is MIG_SLICES else "whole")
    if not arm.preset:
        return ClusterModel(nodes=nodes, delays=delays, resume_after_preemption=resumes)
    settings = queues.build_preset(arm.preset, "batch", 8)
    manager = queues.build_manager_configuration(settings)
    made = objects.build_cluster_model(
        [*queues.build_kueue_objects(settings), *([manager] if manager else [])], nodes=nodes
    )
    return msgspec.structs.replace(made, delays=delays, resume_after_preemption=resumes)


def build_arm_jobs(arm: Arm, there: ClusterModel, speeds: SpeedModel) -> list[PlannedJob]:
    """The jobs as the arm asks for them, in the paper's order."""
    priority = "high-priority" if arm.preset == "paper-c" else ""
    queue = "whisper" if arm.preset == "slots" else ""
    return build_planned_jobs(jobs.load_units(), jobs.build_cluster(arm.accelerators, queue, priority), speeds, there)


def simulate_arm(
    arm: Arm, speeds: SpeedModel, search: SearchOptions, delays: ControlPlaneDelays | None = None
) -> ArmResult:
    """One arm in virtual time. The paper's worker starts anew when it is preempted."""
    there = build_arm_cluster(arm, delays or ControlPlaneDelays(submit_interval=jobs.SUBMIT_INTERVAL))
    order = arrange_jobs(arm.policy, build_arm_jobs(arm, there, speeds), there, speeds, search)
    events = simulate_jobs(there, order)
    return ArmResult(
        arm, there, order, events, compute_timeline_stats(events), compute_makespan_bound(order, there.nodes)
    )
