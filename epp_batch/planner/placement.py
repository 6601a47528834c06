"""Where pods run: the default scheduler on counts, DAS and DRA on slot maps.

Every strategy walks GPUs in order and takes the first start that fits. Between nodes, DAS prefers the one with most
free slots; the default scheduler the one with the fewest pods, which is what its least-allocated score comes to for
pods that are all alike. Ties go to the first node by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from epp_batch.planner import mig_slots
from epp_batch.planner.demand import MIG, Demand, Shape
from epp_batch.planner.mig_slots import SLOTS, Profile, SlotMap
from epp_batch.planner.world import Node


class Slice(NamedTuple):
    """Part of one GPU, or all of it."""

    gpu: int
    start: int
    profile: Profile


WHOLE = Profile("whole", (0,), SLOTS, 7)


class Place(NamedTuple):
    """Where a pod is."""

    node: str
    slices: tuple[Slice, ...] = ()

    def __str__(self) -> str:
        """`node`, `node/gpu-3` or `node/gpu-3/4-7`; of several GPUs the first."""
        if not self.slices:
            return self.node
        first = self.slices[0]
        where = f"{self.node}/gpu-{first.gpu}"
        return where if first.profile is WHOLE else f"{where}/{first.start}-{first.start + first.profile.size - 1}"


class Machine:
    """One node: what is taken on it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.pods = 0
        self.gpus = [SlotMap() for _ in range(node.gpus)]
        self.used: dict[str, int] = {}
        self.cut = list(_cut(node)) if node.sharing == "static" else []
        """Slices that somebody made beforehand, those that are free."""

    @property
    def free_slots(self) -> int:
        return sum(gpu.free for gpu in self.gpus)

    def find(self, demand: Demand) -> Place | None:
        """Where the demand would go on this node now."""
        limits = self.node.allocatable
        for resource in ("cpu", "memory"):
            if self.used.get(resource, 0) + demand.requests.get(resource, 0) > limits.get(resource, 1 << 62):
                return None
        found = self._slices(demand.shape)
        return None if found is None else Place(self.node.name, found)

    def take(self, demand: Demand, place: Place) -> None:
        self.pods += 1
        self._count(demand, 1)
        for piece in place.slices:
            if self.cut and piece.profile is not WHOLE:
                self.cut.remove(piece)
            self.gpus[piece.gpu].take(piece.profile, piece.start)

    def give(self, demand: Demand, place: Place) -> None:
        self.pods -= 1
        self._count(demand, -1)
        for piece in place.slices:
            self.gpus[piece.gpu].give(piece.profile, piece.start)
            if self.node.sharing == "static" and piece.profile is not WHOLE:
                self.cut.append(piece)
                self.cut.sort(key=lambda cut: (cut.gpu, cut.start))

    def _count(self, demand: Demand, sign: int) -> None:
        for resource in ("cpu", "memory"):
            self.used[resource] = self.used.get(resource, 0) + sign * demand.requests.get(resource, 0)

    def _slices(self, shape: Shape) -> tuple[Slice, ...] | None:
        if shape.profile:
            return self._slice(shape.profile)
        if not shape.gpus:
            return ()
        if self.node.sharing in ("das", "static"):
            return None
        free = [Slice(i, 0, WHOLE) for i, gpu in enumerate(self.gpus) if not gpu.taken]
        return tuple(free[: shape.gpus]) if len(free) >= shape.gpus else None

    def _slice(self, name: str) -> tuple[Slice, ...] | None:
        profile = mig_slots.find(self.node.gpu, name)
        if profile is None or self.node.sharing == "whole":
            return None
        if self.node.sharing == "static":
            return next(((piece,) for piece in self.cut if piece.profile is profile), None)
        for i, gpu in enumerate(self.gpus):
            start = gpu.find(profile)
            if start is not None:
                return (Slice(i, start, profile),)
        return None


def _cut(node: Node) -> Iterable[Slice]:
    """A layout with the slices that the node says it has, the largest first; what does not fit is left out."""
    wanted = [
        profile
        for resource, count in node.allocatable.items()
        if resource.startswith(MIG) and (profile := mig_slots.find(node.gpu, resource.removeprefix(MIG)))
        for _ in range(count)
    ]
    maps = [SlotMap() for _ in range(node.gpus)]
    made = []
    for profile in sorted(wanted, key=lambda profile: -profile.size):
        for i, gpu in enumerate(maps):
            start = gpu.find(profile)
            if start is not None:
                gpu.take(profile, start)
                made.append(Slice(i, start, profile))
                break
    return sorted(made, key=lambda piece: (piece.gpu, piece.start))


class Machines:
    """All nodes, and the choice between them."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.machines = {node.name: Machine(node) for node in nodes}

    def place(self, demand: Demand, labels: dict[str, str] | None = None) -> Place | None:
        """Puts a pod somewhere, on a node with all of `labels`; None when it fits nowhere at present."""
        best: tuple[tuple[int, str], Machine, Place] | None = None
        for machine in self.machines.values():
            if labels and any(machine.node.labels.get(key) != value for key, value in labels.items()):
                continue
            found = machine.find(demand)
            if found is not None:
                das = machine.node.sharing == "das" and demand.shape.profile
                score = (-machine.free_slots if das else machine.pods, machine.node.name)
                if best is None or score < best[0]:
                    best = (score, machine, found)
        if best is None:
            return None
        best[1].take(demand, best[2])
        return best[2]

    def free(self, demand: Demand, place: Place) -> None:
        self.machines[place.node].give(demand, place)

    def ever(self, demand: Demand, labels: dict[str, str] | None = None) -> bool:
        """Whether it would fit if nothing else ran."""
        empty = Machines(machine.node for machine in self.machines.values())
        return empty.place(demand, labels) is not None
