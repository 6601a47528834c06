"""Where pods run: the default scheduler on counts, DAS and DRA on slot maps.

Every strategy walks GPUs in order and takes the first start that fits. Between nodes, DAS prefers the one with most
free slots; the default scheduler the one with the fewest pods, which is what its least-allocated score comes to for
pods that are all alike. Ties go to the first node by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from epp_batch.planner import mig_slots
from epp_batch.planner.cluster_model import GpuNode
from epp_batch.planner.mig_slots import SLOTS_PER_GPU, MigProfile, SlotMap
from epp_batch.planner.planned_job import MIG_RESOURCE_PREFIX, AcceleratorRequest, PlannedJob


class GpuSlice(NamedTuple):
    """Part of one GPU, or all of it."""

    gpu_index: int
    start: int
    profile: MigProfile


WHOLE_GPU = MigProfile("whole", (0,), SLOTS_PER_GPU, 7)


class PodPlacement(NamedTuple):
    """Where a pod is."""

    node: str
    gpu_slices: tuple[GpuSlice, ...] = ()

    def __str__(self) -> str:
        """`node`, `node/gpu-3` or `node/gpu-3/4-7`; of several GPUs the first."""
        if not self.gpu_slices:
            return self.node
        first = self.gpu_slices[0]
        where = f"{self.node}/gpu-{first.gpu_index}"
        return where if first.profile is WHOLE_GPU else f"{where}/{first.start}-{first.start + first.profile.size - 1}"


class NodeInfo:
    """One node: what is taken on it."""

    def __init__(self, node: GpuNode) -> None:
        self.node = node
        self.pod_count = 0
        self.slot_maps = [SlotMap() for _ in range(node.gpu_count)]
        self.requested: dict[str, int] = {}
        self.free_static_slices = list(_static_slices(node)) if node.gpu_sharing == "static" else []
        """Slices that somebody made beforehand, those that are free."""

    @property
    def free_slots(self) -> int:
        return sum(gpu.free_slots for gpu in self.slot_maps)

    def find_placement(self, demand: PlannedJob) -> PodPlacement | None:
        """Where the demand would go on this node now."""
        limits = self.node.allocatable
        for resource in ("cpu", "memory"):
            if self.requested.get(resource, 0) + demand.requests.get(resource, 0) > limits.get(resource, 1 << 62):
                return None
        found = self._find_gpu_slices(demand.accelerator)
        return None if found is None else PodPlacement(self.node.name, found)

    def add_pod(self, demand: PlannedJob, place: PodPlacement) -> None:
        self.pod_count += 1
        self._count_requests(demand, 1)
        for piece in place.gpu_slices:
            if self.free_static_slices and piece.profile is not WHOLE_GPU:
                self.free_static_slices.remove(piece)
            self.slot_maps[piece.gpu_index].occupy(piece.profile, piece.start)

    def remove_pod(self, demand: PlannedJob, place: PodPlacement) -> None:
        self.pod_count -= 1
        self._count_requests(demand, -1)
        for piece in place.gpu_slices:
            self.slot_maps[piece.gpu_index].release(piece.profile, piece.start)
            if self.node.gpu_sharing == "static" and piece.profile is not WHOLE_GPU:
                self.free_static_slices.append(piece)
                self.free_static_slices.sort(key=lambda cut: (cut.gpu_index, cut.start))

    def _count_requests(self, demand: PlannedJob, sign: int) -> None:
        for resource in ("cpu", "memory"):
            self.requested[resource] = self.requested.get(resource, 0) + sign * demand.requests.get(resource, 0)

    def _find_gpu_slices(self, shape: AcceleratorRequest) -> tuple[GpuSlice, ...] | None:
        if shape.mig_profile:
            return self._find_mig_slice(shape.mig_profile)
        if not shape.gpu_count:
            return ()
        if self.node.gpu_sharing in ("das", "static"):
            return None
        free = [GpuSlice(i, 0, WHOLE_GPU) for i, gpu in enumerate(self.slot_maps) if not gpu.occupied]
        return tuple(free[: shape.gpu_count]) if len(free) >= shape.gpu_count else None

    def _find_mig_slice(self, name: str) -> tuple[GpuSlice, ...] | None:
        profile = mig_slots.find_profile(self.node.gpu_model, name)
        if profile is None or self.node.gpu_sharing == "whole":
            return None
        if self.node.gpu_sharing == "static":
            return next(((piece,) for piece in self.free_static_slices if piece.profile is profile), None)
        for i, gpu in enumerate(self.slot_maps):
            start = gpu.find_first_fit(profile)
            if start is not None:
                return (GpuSlice(i, start, profile),)
        return None


def _static_slices(node: GpuNode) -> Iterable[GpuSlice]:
    """A layout with the slices that the node says it has, the largest first; what does not fit is left out."""
    wanted = [
        profile
        for resource, count in node.allocatable.items()
        if resource.startswith(MIG_RESOURCE_PREFIX)
        and (profile := mig_slots.find_profile(node.gpu_model, resource.removeprefix(MIG_RESOURCE_PREFIX)))
        for _ in range(count)
    ]
    maps = [SlotMap() for _ in range(node.gpu_count)]
    made = []
    for profile in sorted(wanted, key=lambda profile: -profile.size):
        for i, gpu in enumerate(maps):
            start = gpu.find_first_fit(profile)
            if start is not None:
                gpu.occupy(profile, start)
                made.append(GpuSlice(i, start, profile))
                break
    return sorted(made, key=lambda piece: (piece.gpu_index, piece.start))


class PodScheduler:
    """All nodes, and the choice between them."""

    def __init__(self, nodes: Iterable[GpuNode]) -> None:
        self.node_infos = {node.name: NodeInfo(node) for node in nodes}

    def schedule_pod(self, demand: PlannedJob, labels: dict[str, str] | None = None) -> PodPlacement | None:
        """Puts a pod somewhere, on a node with all of `labels`; None when it fits nowhere at present."""
        best: tuple[tuple[int, str], NodeInfo, PodPlacement] | None = None
        for machine in self.node_infos.values():
            if labels and any(machine.node.labels.get(key) != value for key, value in labels.items()):
                continue
            found = machine.find_placement(demand)
            if found is not None:
                das = machine.node.gpu_sharing == "das" and demand.accelerator.mig_profile
                score = (-machine.free_slots if das else machine.pod_count, machine.node.name)
                if best is None or score < best[0]:
                    best = (score, machine, found)
        if best is None:
            return None
        best[1].add_pod(demand, best[2])
        return best[2]

    def remove_pod(self, demand: PlannedJob, place: PodPlacement) -> None:
        self.node_infos[place.node].remove_pod(demand, place)

    def fits_empty_cluster(self, demand: PlannedJob, labels: dict[str, str] | None = None) -> bool:
        """Whether it would fit if nothing else ran."""
        empty = PodScheduler(machine.node for machine in self.node_infos.values())
        return empty.schedule_pod(demand, labels) is not None
