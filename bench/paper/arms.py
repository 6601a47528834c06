"""What is compared: the paper's configurations and ours, all on one node with eight A100 of 40 GB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from bench.paper import jobs
from epp_batch.manifests import queues
from epp_batch.planner import (
    Delays,
    Demand,
    Outcome,
    Policy,
    Search,
    Speeds,
    World,
    arrange,
    bound,
    demands,
    machine,
    objects,
    outcome,
    run,
)
from epp_batch.timeline import Event

GPUS = {"medium": "gpu", "large": "gpu"}
SLICES = {"medium": "mig:1g.5gb", "large": "mig:3g.20gb"}
NATIVE, BEST_QUEUE, DAS = "native", "Kueue C", "DAS"


class Arm(NamedTuple):
    """One configuration. `preset` names queues of `epp-batch queues`; none for the plain scheduler."""

    name: str
    about: str
    accelerators: Mapping[str, str]
    preset: str = ""
    policy: Policy = "submission"
    ours: bool = False

    @property
    def playable(self) -> bool:
        """On a real control plane: whole GPUs with a queue, and slices, as claims without one."""
        return self.accelerators is SLICES or bool(self.preset)


ARMS = (
    Arm(NATIVE, "whole GPUs, default scheduler, first come first served", GPUS),
    Arm("Kueue A", "whole GPUs, one queue", GPUS, "paper-a"),
    Arm("Kueue B", "whole GPUs, two queues in a cohort", GPUS, "paper-b"),
    Arm(BEST_QUEUE, "whole GPUs, one queue, large preempts medium", GPUS, "paper-c"),
    Arm(DAS, "slices 1g.5gb and 3g.20gb, first fit, no queue", SLICES),
    Arm("ours, whole GPUs", "one queue, order by search", GPUS, "paper-a", "slots", ours=True),
    Arm("ours, same slices", "a quota of slots, order by search", SLICES, "slots", "slots", ours=True),
    Arm("ours, slices chosen", "the same, whole GPUs for the longest", SLICES, "slots", "mixed", ours=True),
)


class Found(NamedTuple):
    """One arm's run."""

    arm: Arm
    world: World
    order: list[Demand]
    events: list[Event]
    figures: Outcome
    bound: float

    @property
    def queued(self) -> bool:
        """Played through real Kueue; slices are played without."""
        return self.world.kueue is not None and self.arm.accelerators is not SLICES


def world(arm: Arm, delays: Delays, *, resumes: bool = False) -> World:
    """The node, with the arm's queues over it."""
    nodes = machine(sharing="das" if arm.accelerators is SLICES else "whole")
    if not arm.preset:
        return World(nodes=nodes, delays=delays, resumes=resumes)
    settings = queues.preset(arm.preset, "batch", 8)
    manager = queues.configuration(settings)
    made = objects.world([*queues.objects(settings), *([manager] if manager else [])], nodes=nodes)
    return msgspec.structs.replace(made, delays=delays, resumes=resumes)


def wanted(arm: Arm, there: World, speeds: Speeds) -> list[Demand]:
    """The jobs as the arm asks for them, in the paper's order."""
    priority = "high-priority" if arm.preset == "paper-c" else ""
    queue = "whisper" if arm.preset == "slots" else ""
    return demands(jobs.units(), jobs.cluster(arm.accelerators, queue, priority), speeds, there)


def simulate(arm: Arm, speeds: Speeds, search: Search, delays: Delays | None = None) -> Found:
    """One arm in virtual time. The paper's worker starts anew when it is preempted."""
    there = world(arm, delays or Delays(submit=jobs.GAP))
    order = arrange(arm.policy, wanted(arm, there, speeds), there, speeds, search)
    events = run(there, order)
    return Found(arm, there, order, events, outcome(events), bound(order, there.nodes))
