"""Units as the scheduler sees them: what each asks for, in which queue, and for how long."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from epp_batch.errors import InputError
from epp_batch.planner import mig_slots
from epp_batch.planner.cluster_model import ClusterModel, ResourceList
from epp_batch.planner.mig_slots import SLOTS_PER_GPU
from epp_batch.planner.speed import SpeedModel
from epp_batch.spec import ClusterOptions, Unit

GPU_RESOURCE = "nvidia.com/gpu"
MIG_RESOURCE_PREFIX = "nvidia.com/mig-"
DEVICE_CLASS_PREFIX = "deviceclass/"
"""Before the name of a DeviceClass: a claim, in the place where other requests have a resource."""


class AcceleratorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The accelerator part of a demand: whole GPUs, or one slice, or neither."""

    gpu_count: int = 0
    mig_profile: str = ""
    uses_claim: bool = False
    """Asked for by a ResourceClaim rather than by an extended resource."""

    @property
    def compute_slices(self) -> int | None:
        """Sevenths of a GPU, from the profile's name; None for whole GPUs and for the CPU."""
        found = re.match(r"(\d+)g\.", self.mig_profile)
        return int(found[1]) if found else None

    def resource_requests(self) -> ResourceList:
        """As a Job would ask for it."""
        if self.uses_claim:
            return {
                DEVICE_CLASS_PREFIX + ("mig.nvidia.com" if self.mig_profile else "gpu.nvidia.com"): self.gpu_count or 1
            }
        if self.mig_profile:
            return {MIG_RESOURCE_PREFIX + self.mig_profile: 1}
        return {GPU_RESOURCE: self.gpu_count} if self.gpu_count else {}


class PlannedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One unit to be placed."""

    unit: str
    model: str
    local_queue: str
    """LocalQueue."""
    priority: int = 0
    accelerator: AcceleratorRequest
    gpu_slots: int
    """Eighths of a GPU."""
    gpu_memory: int = 0
    """Bytes of GPU memory: what its name says, or all that the smallest GPU model has."""
    requests: ResourceList
    """Everything its pod asks for."""
    startup_seconds: float
    """Seconds before the work; paid again after every preemption."""
    work_seconds: float
    """Seconds of the work itself on that shape."""

    @property
    def duration_seconds(self) -> float:
        """Of an undisturbed run."""
        return self.startup_seconds + self.work_seconds


def parse_accelerator_request(accelerator: str) -> AcceleratorRequest:
    """`gpu`, `gpu:2`, `mig:1g.5gb`, `dra:3g.20gb`, `dra-gpu`, `cpu`; InputError for anything else."""
    kind, _, detail = accelerator.partition(":")
    if kind in {"gpu", "dra-gpu"} and (not detail or detail.isdigit()):
        return AcceleratorRequest(gpu_count=int(detail or 1), uses_claim=kind == "dra-gpu")
    if kind in {"mig", "dra"} and detail:
        return AcceleratorRequest(mig_profile=detail, uses_claim=kind == "dra")
    if accelerator == "cpu":
        return AcceleratorRequest()
    raise InputError(
        f"accelerator {accelerator!r} is none that is known",
        remedy="use gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu",
    )


_QUANTITY_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_QUANTITY_SUFFIXES |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGTP", 1)}


def parse_resource_quantity(text: str | int | float, resource: str = "") -> int:
    """A Kubernetes quantity as the planner counts: thousandths for `cpu`, units for the rest, rounded up."""
    found = re.fullmatch(r"([0-9.eE+-]+)(m|k|[KMGTP]i?)?", str(text).strip())
    try:
        number = Decimal(found[1]) if found else None
    except InvalidOperation:
        number = None
    if found is None or number is None:
        raise InputError(f"{text!r} is no quantity", remedy="write it as Kubernetes does: 500m, 4, 16Gi")
    suffix = found[2] or ""
    scaled = number / 1000 if suffix == "m" else number * _QUANTITY_SUFFIXES[suffix]
    if resource == "cpu":
        scaled *= 1000
    return int(-(-scaled // 1))


def build_planned_jobs(
    units: Sequence[Unit], cluster: ClusterOptions, speeds: SpeedModel, world: ClusterModel
) -> list[PlannedJob]:
    """What the units of a run ask of the world, in their order.

    A unit of unknown length counts as long as the mean of the others of its model, or of all; InputError when no
    length at all is known, and when no node's GPUs have a slice that is asked for.
    """
    known = {unit.name: unit.seconds for unit in units if unit.seconds is not None}
    if units and not known:
        raise InputError(
            "no recording's length is known", remedy="let the files be probed, or give a manifest with seconds"
        )
    return [_build_planned_job(unit, _audio_seconds(unit, units, known), cluster, speeds, world) for unit in units]


def _audio_seconds(unit: Unit, units: Sequence[Unit], known: dict[str, float]) -> float:
    if unit.name in known:
        return known[unit.name]
    same = [known[other.name] for other in units if other.model == unit.model and other.name in known]
    return statistics.fmean(same or known.values())


def _build_planned_job(
    unit: Unit, audio: float, cluster: ClusterOptions, speeds: SpeedModel, world: ClusterModel
) -> PlannedJob:
    placement = cluster.placement_for(unit.model)
    wanted = parse_accelerator_request(placement.accelerator)
    requests = wanted.resource_requests()
    for resource, amount in (("cpu", placement.cpu), ("memory", placement.memory)):
        if amount:
            requests[resource] = parse_resource_quantity(amount, resource)
    priorities = world.kueue.priority_classes if world.kueue else {}
    return PlannedJob(
        unit=unit.name,
        model=unit.model,
        local_queue=placement.queue or cluster.queue,
        priority=priorities.get(placement.priority_class or "", 0),
        accelerator=wanted,
        gpu_slots=_gpu_slots(wanted, world),
        gpu_memory=_gpu_memory(wanted, world),
        requests=requests,
        startup_seconds=speeds.startup_seconds,
        work_seconds=speeds.transcription_seconds(unit.model, audio, wanted.compute_slices),
    )


def widen_to_whole_gpu(demand: PlannedJob, world: ClusterModel, slowdown: float) -> PlannedJob | None:
    """The same on the slice that is all of a GPU, where some node has one; `slowdown` is that of its slice now."""
    for gpu in sorted({node.gpu_model for node in world.nodes if node.gpu_sharing in {"das", "dra"}}):
        for profile in mig_slots.MIG_PROFILES.get(gpu, {}).values():
            if profile.size == SLOTS_PER_GPU and demand.accelerator.mig_profile and demand.gpu_slots < SLOTS_PER_GPU:
                wanted = msgspec.structs.replace(demand.accelerator, mig_profile=profile.name)
                kept = {name: amount for name, amount in demand.requests.items() if name in {"cpu", "memory"}}
                return msgspec.structs.replace(
                    demand,
                    accelerator=wanted,
                    gpu_slots=SLOTS_PER_GPU,
                    gpu_memory=_gpu_memory(wanted, world),
                    requests=wanted.resource_requests() | kept,
                    work_seconds=demand.work_seconds / slowdown,
                )
    return None


def _gpu_memory(wanted: AcceleratorRequest, world: ClusterModel) -> int:
    named = re.search(r"(\d+)gb", wanted.mig_profile)
    if named:
        return int(named[1]) << 30
    sizes = [int(found[0]) for node in world.nodes if (found := re.findall(r"-(\d+)$", node.gpu_model))]
    return wanted.gpu_count * min(sizes, default=0) << 30


def _gpu_slots(wanted: AcceleratorRequest, world: ClusterModel) -> int:
    """The same slice may take more slots on one GPU model than on another: the least of those there are."""
    if not wanted.mig_profile:
        return SLOTS_PER_GPU * wanted.gpu_count
    models = sorted({node.gpu_model for node in world.nodes if node.gpu_sharing != "whole"})
    found = [profile.size for gpu in models if (profile := mig_slots.find_profile(gpu, wanted.mig_profile))]
    if not found:
        have = ", ".join(models) or "no GPU that is shared in slices"
        raise InputError(
            f"no node has a slice {wanted.mig_profile}: there is {have}", remedy="name another --accelerator"
        )
    return min(found)
