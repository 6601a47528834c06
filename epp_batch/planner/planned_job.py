"""Units as the schedulers see them: what the Job of each requests, through which queue, and for how long it runs."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

import msgspec

from epp_batch.errors import InputError
from epp_batch.manifests.quantities import parse_quantity
from epp_batch.planner import mig_slots
from epp_batch.planner.cluster_model import ClusterModel, ResourceList
from epp_batch.planner.mig_slots import SLOTS_PER_GPU
from epp_batch.planner.speed import SpeedModel
from epp_batch.spec import ClusterOptions, Unit

GPU_RESOURCE = "nvidia.com/gpu"
MIG_RESOURCE_PREFIX = "nvidia.com/mig-"
DEVICE_CLASS_PREFIX = "deviceclass/"
"""Before the name of a DeviceClass in a ResourceList: devices requested through a ResourceClaim."""


class AcceleratorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The accelerators that one pod requests: whole GPUs, or one MIG slice, or none."""

    gpu_count: int = 0
    mig_profile: str = ""
    uses_claim: bool = False
    """Requested through a ResourceClaim (DRA) and not as an extended resource."""

    @property
    def compute_slices(self) -> int | None:
        """Sevenths of a GPU's multiprocessors, from the profile's name; None for whole GPUs and for the CPU."""
        match = re.match(r"(\d+)g\.", self.mig_profile)
        return int(match[1]) if match else None

    def resource_requests(self) -> ResourceList:
        """The requests of the pod, claims under DEVICE_CLASS_PREFIX."""
        if self.uses_claim:
            device_class = "mig.nvidia.com" if self.mig_profile else "gpu.nvidia.com"
            return {DEVICE_CLASS_PREFIX + device_class: self.gpu_count or 1}
        if self.mig_profile:
            return {MIG_RESOURCE_PREFIX + self.mig_profile: 1}
        return {GPU_RESOURCE: self.gpu_count} if self.gpu_count else {}


class PlannedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The Job of one unit, with one pod."""

    unit: str
    model: str
    local_queue: str
    priority: int = 0
    accelerator: AcceleratorRequest
    gpu_slots: int
    """Eighths of a GPU."""
    gpu_memory: int = 0
    """Bytes: what the name of the MIG profile says, or all that the smallest GPU model has."""
    requests: ResourceList
    """Everything its pod requests."""
    startup_seconds: float
    """Before the work; spent again after every preemption."""
    work_seconds: float
    """The work itself on that accelerator."""

    @property
    def duration_seconds(self) -> float:
        """From the start to the end of a run without preemption."""
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
        f"unknown accelerator {accelerator!r}", remedy="use gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu"
    )


def units_of_resource(resource: str) -> int:
    """How many of the planner's units one of a resource is: 1000 of a CPU, 1 of anything else. Kueue: ResourceValue."""
    return 1000 if resource == "cpu" else 1


def parse_resource_quantity(text: str | int | float, resource: str = "") -> int:
    """A Kubernetes quantity as a whole number: thousandths for `cpu`, units for every other resource.

    Fractions of that are cut off, where Kueue rounds up. Raises InputError if the text is not a quantity.
    """
    return int(parse_quantity(text) * units_of_resource(resource))


def build_planned_jobs(
    units: Sequence[Unit], cluster: ClusterOptions, speeds: SpeedModel, cluster_model: ClusterModel
) -> list[PlannedJob]:
    """The Jobs of units, in their order.

    A unit of unknown length counts with the mean length of its model, or of all units if none of its model is known.
    Raises InputError when no length is known, and when no GPU of the cluster has a MIG profile that is requested.
    """
    known = {unit.name: unit.seconds for unit in units if unit.seconds is not None}
    if units and not known:
        raise InputError(
            "no recording has a known length", remedy="let the files be probed, or give a manifest with seconds"
        )
    return [
        _build_planned_job(unit, _audio_seconds(unit, units, known), cluster, speeds, cluster_model) for unit in units
    ]


def _audio_seconds(unit: Unit, units: Sequence[Unit], known: dict[str, float]) -> float:
    if unit.name in known:
        return known[unit.name]
    same_model = [known[other.name] for other in units if other.model == unit.model and other.name in known]
    return statistics.fmean(same_model or known.values())


def _build_planned_job(
    unit: Unit, audio_seconds: float, cluster: ClusterOptions, speeds: SpeedModel, cluster_model: ClusterModel
) -> PlannedJob:
    placement = cluster.placement_for(unit.model)
    accelerator = parse_accelerator_request(placement.accelerator)
    requests = accelerator.resource_requests()
    for resource, amount in (("cpu", placement.cpu), ("memory", placement.memory)):
        if amount:
            requests[resource] = parse_resource_quantity(amount, resource)
    priority_classes = cluster_model.kueue.priority_classes if cluster_model.kueue else {}
    return PlannedJob(
        unit=unit.name,
        model=unit.model,
        local_queue=placement.queue or cluster.queue,
        priority=priority_classes.get(placement.priority_class or "", 0),
        accelerator=accelerator,
        gpu_slots=_gpu_slots(accelerator, cluster_model),
        gpu_memory=_gpu_memory(accelerator, cluster_model),
        requests=requests,
        startup_seconds=speeds.startup_seconds,
        work_seconds=speeds.transcription_seconds(unit.model, audio_seconds, accelerator.compute_slices),
    )


def widen_to_whole_gpu(job: PlannedJob, cluster_model: ClusterModel, slowdown: float) -> PlannedJob | None:
    """A copy of the job on the MIG profile that is a whole GPU; None if it has one, or if no node can create one.

    `slowdown` is that of its present slice, by which the work gets shorter.
    """
    for gpu_model in sorted({node.gpu_model for node in cluster_model.nodes if node.gpu_sharing in {"das", "dra"}}):
        for profile in mig_slots.MIG_PROFILES.get(gpu_model, {}).values():
            if profile.size == SLOTS_PER_GPU and job.accelerator.mig_profile and job.gpu_slots < SLOTS_PER_GPU:
                accelerator = msgspec.structs.replace(job.accelerator, mig_profile=profile.name)
                other_requests = {name: job.requests[name] for name in ("cpu", "memory") if name in job.requests}
                return msgspec.structs.replace(
                    job,
                    accelerator=accelerator,
                    gpu_slots=SLOTS_PER_GPU,
                    gpu_memory=_gpu_memory(accelerator, cluster_model),
                    requests=accelerator.resource_requests() | other_requests,
                    work_seconds=job.work_seconds / slowdown,
                )
    return None


def _gpu_memory(accelerator: AcceleratorRequest, cluster_model: ClusterModel) -> int:
    named = re.search(r"(\d+)gb", accelerator.mig_profile)
    if named:
        return int(named[1]) << 30
    sizes = [int(found[0]) for node in cluster_model.nodes if (found := re.findall(r"-(\d+)$", node.gpu_model))]
    return accelerator.gpu_count * min(sizes, default=0) << 30


def _gpu_slots(accelerator: AcceleratorRequest, cluster_model: ClusterModel) -> int:
    """One profile name may take more slots on one GPU model than on another: the fewest among the cluster's models."""
    if not accelerator.mig_profile:
        return SLOTS_PER_GPU * accelerator.gpu_count
    gpu_models = sorted({node.gpu_model for node in cluster_model.nodes if node.gpu_sharing != "whole"})
    sizes = [
        profile.size
        for gpu_model in gpu_models
        if (profile := mig_slots.find_profile(gpu_model, accelerator.mig_profile))
    ]
    if not sizes:
        available = ", ".join(gpu_models) or "none that is shared in slices"
        raise InputError(
            f"no node has the MIG profile {accelerator.mig_profile}; GPUs of the cluster: {available}",
            remedy="name another --accelerator",
        )
    return min(sizes)
