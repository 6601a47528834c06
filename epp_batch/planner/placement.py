"""Places pods on nodes: the default scheduler by counted GPUs, DAS and DRA by slot maps.

Within a node, GPUs are taken in order and a slice at the first start that fits (`SlotMap.find_first_fit`). Between
nodes, DAS's plugin MigAccelerator prefers the one with most free slots. The default scheduler prefers the one with
fewest pods here: that is what NodeResourcesFit with the strategy LeastAllocated comes to for pods that are all alike.
Ties go to the first node by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from epp_batch.planner import mig_slots
from epp_batch.planner.cluster_model import GpuNode
from epp_batch.planner.mig_slots import SLOTS_PER_GPU, MigProfile, SlotMap
from epp_batch.planner.planned_job import MIG_RESOURCE_PREFIX, AcceleratorRequest, PlannedJob


class GpuSlice(NamedTuple):
    """A MIG slice of one GPU, or all of the GPU (WHOLE_GPU)."""

    gpu_index: int
    start: int
    profile: MigProfile


WHOLE_GPU = MigProfile("whole", (0,), SLOTS_PER_GPU, 7)


class PodPlacement(NamedTuple):
    """The node and the GPUs of a pod."""

    node: str
    gpu_slices: tuple[GpuSlice, ...] = ()

    def __str__(self) -> str:
        """The `place` of events: `node`, `node/gpu-3` or `node/gpu-3/4-7` (first to last slot); the first GPU."""
        if not self.gpu_slices:
            return self.node
        first = self.gpu_slices[0]
        device = f"{self.node}/gpu-{first.gpu_index}"
        if first.profile is WHOLE_GPU:
            return device
        return f"{device}/{first.start}-{first.start + first.profile.size - 1}"


class NodeInfo:
    """Resources in use on one node. kube-scheduler: framework.NodeInfo."""

    def __init__(self, node: GpuNode) -> None:
        self.node = node
        self.pod_count = 0
        self.slot_maps = [SlotMap() for _ in range(node.gpu_count)]
        self.requested: dict[str, int] = {}
        """CPU and memory requested by the pods here."""
        self.free_static_slices = list(_lay_out_static_slices(node)) if node.gpu_sharing == "static" else []
        """With `static` sharing, the slices that no pod has; in order of GPU and start."""

    @property
    def free_slots(self) -> int:
        """Free slots of all GPUs."""
        return sum(slot_map.free_slots for slot_map in self.slot_maps)

    def find_placement(self, job: PlannedJob) -> PodPlacement | None:
        """The pod's placement on this node now; None if it does not fit. kube-scheduler: NodeResourcesFit."""
        allocatable = self.node.allocatable
        for resource in ("cpu", "memory"):
            requested = self.requested.get(resource, 0) + job.requests.get(resource, 0)
            if requested > allocatable.get(resource, 1 << 62):
                return None
        gpu_slices = self._find_gpu_slices(job.accelerator)
        return None if gpu_slices is None else PodPlacement(self.node.name, gpu_slices)

    def add_pod(self, job: PlannedJob, placement: PodPlacement) -> None:
        """Takes the resources of a pod."""
        self.pod_count += 1
        self._count_requests(job, 1)
        for gpu_slice in placement.gpu_slices:
            if self.free_static_slices and gpu_slice.profile is not WHOLE_GPU:
                self.free_static_slices.remove(gpu_slice)
            self.slot_maps[gpu_slice.gpu_index].occupy(gpu_slice.profile, gpu_slice.start)

    def remove_pod(self, job: PlannedJob, placement: PodPlacement) -> None:
        """Frees the resources of a pod."""
        self.pod_count -= 1
        self._count_requests(job, -1)
        for gpu_slice in placement.gpu_slices:
            self.slot_maps[gpu_slice.gpu_index].release(gpu_slice.profile, gpu_slice.start)
            if self.node.gpu_sharing == "static" and gpu_slice.profile is not WHOLE_GPU:
                self.free_static_slices.append(gpu_slice)
                self.free_static_slices.sort(key=lambda free: (free.gpu_index, free.start))

    def _count_requests(self, job: PlannedJob, sign: int) -> None:
        for resource in ("cpu", "memory"):
            self.requested[resource] = self.requested.get(resource, 0) + sign * job.requests.get(resource, 0)

    def _find_gpu_slices(self, accelerator: AcceleratorRequest) -> tuple[GpuSlice, ...] | None:
        """The devices a pod would get; empty if it requests none, None if they are not free."""
        if accelerator.mig_profile:
            gpu_slice = self._find_mig_slice(accelerator.mig_profile)
            return None if gpu_slice is None else (gpu_slice,)
        if not accelerator.gpu_count:
            return ()
        # DAS and the device plugin in MIG mode advertise slices only, no nvidia.com/gpu.
        if self.node.gpu_sharing in ("das", "static"):
            return None
        free = [GpuSlice(i, 0, WHOLE_GPU) for i, slot_map in enumerate(self.slot_maps) if not slot_map.occupied]
        return tuple(free[: accelerator.gpu_count]) if len(free) >= accelerator.gpu_count else None

    def _find_mig_slice(self, profile_name: str) -> GpuSlice | None:
        profile = mig_slots.find_profile(self.node.gpu_model, profile_name)
        if profile is None or self.node.gpu_sharing == "whole":
            return None
        if self.node.gpu_sharing == "static":
            return next((free for free in self.free_static_slices if free.profile is profile), None)
        # DAS: Filter of the plugin MigAccelerator; DRA: the structured allocator in the order of published devices.
        for i, slot_map in enumerate(self.slot_maps):
            start = slot_map.find_first_fit(profile)
            if start is not None:
                return GpuSlice(i, start, profile)
        return None


def _lay_out_static_slices(node: GpuNode) -> Iterable[GpuSlice]:
    """A layout of the slices that `allocatable` lists, the largest placed first; what does not fit is left out."""
    profiles = [
        profile
        for resource, count in node.allocatable.items()
        if resource.startswith(MIG_RESOURCE_PREFIX)
        and (profile := mig_slots.find_profile(node.gpu_model, resource.removeprefix(MIG_RESOURCE_PREFIX)))
        for _ in range(count)
    ]
    slot_maps = [SlotMap() for _ in range(node.gpu_count)]
    gpu_slices = []
    for profile in sorted(profiles, key=lambda profile: -profile.size):
        for i, slot_map in enumerate(slot_maps):
            start = slot_map.find_first_fit(profile)
            if start is not None:
                slot_map.occupy(profile, start)
                gpu_slices.append(GpuSlice(i, start, profile))
                break
    return sorted(gpu_slices, key=lambda gpu_slice: (gpu_slice.gpu_index, gpu_slice.start))


class PodScheduler:
    """All nodes, and the choice between them: filter by node selector and resources, then score."""

    def __init__(self, nodes: Iterable[GpuNode]) -> None:
        self.node_infos = {node.name: NodeInfo(node) for node in nodes}

    def schedule_pod(self, job: PlannedJob, node_selector: dict[str, str] | None = None) -> PodPlacement | None:
        """Places the pod of a job on a node that has all labels of `node_selector`; None if it fits on none now."""
        best: tuple[tuple[int, str], NodeInfo, PodPlacement] | None = None
        for info in self.node_infos.values():
            # kube-scheduler: the filter of the plugin NodeAffinity, which also checks node selectors.
            if node_selector and any(info.node.labels.get(key) != value for key, value in node_selector.items()):
                continue
            placement = info.find_placement(job)
            if placement is not None:
                # DAS: Score of the plugin MigAccelerator; others: NodeResourcesFit with LeastAllocated.
                das = info.node.gpu_sharing == "das" and job.accelerator.mig_profile
                score = (-info.free_slots if das else info.pod_count, info.node.name)
                if best is None or score < best[0]:
                    best = (score, info, placement)
        if best is None:
            return None
        best[1].add_pod(job, best[2])
        return best[2]

    def remove_pod(self, job: PlannedJob, placement: PodPlacement) -> None:
        """Frees what the pod of a job had."""
        self.node_infos[placement.node].remove_pod(job, placement)

    def fits_empty_cluster(self, job: PlannedJob, node_selector: dict[str, str] | None = None) -> bool:
        """Whether the pod would fit if nothing else ran."""
        empty = PodScheduler(info.node for info in self.node_infos.values())
        return empty.schedule_pod(job, node_selector) is not None
