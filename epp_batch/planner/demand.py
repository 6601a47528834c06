"""Units as the scheduler sees them: what each asks for, in which queue, and for how long."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from epp_batch.errors import InputError
from epp_batch.planner import mig_slots
from epp_batch.planner.mig_slots import SLOTS
from epp_batch.planner.speed import Speeds
from epp_batch.planner.world import Amounts, World
from epp_batch.spec import Cluster, Unit

GPU = "nvidia.com/gpu"
MIG = "nvidia.com/mig-"
CLASS = "deviceclass/"
"""Before the name of a DeviceClass: a claim, in the place where other requests have a resource."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The accelerator part of a demand: whole GPUs, or one slice, or neither."""

    gpus: int = 0
    profile: str = ""
    claim: bool = False
    """Asked for by a ResourceClaim rather than by an extended resource."""

    @property
    def compute(self) -> int | None:
        """Sevenths of a GPU, from the profile's name; None for whole GPUs and for the CPU."""
        found = re.match(r"(\d+)g\.", self.profile)
        return int(found[1]) if found else None

    def requests(self) -> Amounts:
        """As a Job would ask for it."""
        if self.claim:
            return {CLASS + ("mig.nvidia.com" if self.profile else "gpu.nvidia.com"): self.gpus or 1}
        if self.profile:
            return {MIG + self.profile: 1}
        return {GPU: self.gpus} if self.gpus else {}


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """One unit to be placed."""

    unit: str
    model: str
    queue: str
    """LocalQueue."""
    priority: int = 0
    shape: Shape
    slots: int
    """Eighths of a GPU."""
    memory: int = 0
    """Bytes of GPU memory: what its name says, or all that the smallest GPU model has."""
    requests: Amounts
    """Everything its pod asks for."""
    startup: float
    """Seconds before the work; paid again after every preemption."""
    work: float
    """Seconds of the work itself on that shape."""

    @property
    def seconds(self) -> float:
        """Of an undisturbed run."""
        return self.startup + self.work


def shape(accelerator: str) -> Shape:
    """`gpu`, `gpu:2`, `mig:1g.5gb`, `dra:3g.20gb`, `dra-gpu`, `cpu`; InputError for anything else."""
    kind, _, detail = accelerator.partition(":")
    if kind in {"gpu", "dra-gpu"} and (not detail or detail.isdigit()):
        return Shape(gpus=int(detail or 1), claim=kind == "dra-gpu")
    if kind in {"mig", "dra"} and detail:
        return Shape(profile=detail, claim=kind == "dra")
    if accelerator == "cpu":
        return Shape()
    raise InputError(
        f"accelerator {accelerator!r} is none that is known",
        remedy="use gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu",
    )


_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_SUFFIXES |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGTP", 1)}


def quantity(text: str | int | float, resource: str = "") -> int:
    """A Kubernetes quantity as the planner counts: thousandths for `cpu`, units for the rest, rounded up."""
    found = re.fullmatch(r"([0-9.eE+-]+)(m|k|[KMGTP]i?)?", str(text).strip())
    try:
        number = Decimal(found[1]) if found else None
    except InvalidOperation:
        number = None
    if found is None or number is None:
        raise InputError(f"{text!r} is no quantity", remedy="write it as Kubernetes does: 500m, 4, 16Gi")
    suffix = found[2] or ""
    scaled = number / 1000 if suffix == "m" else number * _SUFFIXES[suffix]
    if resource == "cpu":
        scaled *= 1000
    return int(-(-scaled // 1))


def demands(units: Sequence[Unit], cluster: Cluster, speeds: Speeds, world: World) -> list[Demand]:
    """What the units of a run ask of the world, in their order.

    A unit of unknown length counts as long as the mean of the others of its model, or of all; InputError when no
    length at all is known, and when no node's GPUs have a slice that is asked for.
    """
    known = {unit.name: unit.seconds for unit in units if unit.seconds is not None}
    if units and not known:
        raise InputError(
            "no recording's length is known", remedy="let the files be probed, or give a manifest with seconds"
        )
    return [_demand(unit, _length(unit, units, known), cluster, speeds, world) for unit in units]


def _length(unit: Unit, units: Sequence[Unit], known: dict[str, float]) -> float:
    if unit.name in known:
        return known[unit.name]
    same = [known[other.name] for other in units if other.model == unit.model and other.name in known]
    return statistics.fmean(same or known.values())


def _demand(unit: Unit, audio: float, cluster: Cluster, speeds: Speeds, world: World) -> Demand:
    placement = cluster.placement(unit.model)
    wanted = shape(placement.accelerator)
    requests = wanted.requests()
    for resource, amount in (("cpu", placement.cpu), ("memory", placement.memory)):
        if amount:
            requests[resource] = quantity(amount, resource)
    priorities = world.kueue.priorities if world.kueue else {}
    return Demand(
        unit=unit.name,
        model=unit.model,
        queue=placement.queue or cluster.queue,
        priority=priorities.get(placement.priority_class or "", 0),
        shape=wanted,
        slots=_slots(wanted, world),
        memory=_memory(wanted, world),
        requests=requests,
        startup=speeds.startup,
        work=speeds.seconds(unit.model, audio, wanted.compute),
    )


def widest(demand: Demand, world: World, slowdown: float) -> Demand | None:
    """The same on the slice that is all of a GPU, where some node has one; `slowdown` is that of its slice now."""
    for gpu in sorted({node.gpu for node in world.nodes if node.sharing in {"das", "dra"}}):
        for profile in mig_slots.PROFILES.get(gpu, {}).values():
            if profile.size == SLOTS and demand.shape.profile and demand.slots < SLOTS:
                wanted = msgspec.structs.replace(demand.shape, profile=profile.name)
                kept = {name: amount for name, amount in demand.requests.items() if name in {"cpu", "memory"}}
                return msgspec.structs.replace(
                    demand,
                    shape=wanted,
                    slots=SLOTS,
                    memory=_memory(wanted, world),
                    requests=wanted.requests() | kept,
                    work=demand.work / slowdown,
                )
    return None


def _memory(wanted: Shape, world: World) -> int:
    named = re.search(r"(\d+)gb", wanted.profile)
    if named:
        return int(named[1]) << 30
    sizes = [int(found[0]) for node in world.nodes if (found := re.findall(r"-(\d+)$", node.gpu))]
    return wanted.gpus * min(sizes, default=0) << 30


def _slots(wanted: Shape, world: World) -> int:
    """The same slice may take more slots on one GPU model than on another: the least of those there are."""
    if not wanted.profile:
        return SLOTS * wanted.gpus
    models = sorted({node.gpu for node in world.nodes if node.sharing != "whole"})
    found = [profile.size for gpu in models if (profile := mig_slots.find(gpu, wanted.profile))]
    if not found:
        have = ", ".join(models) or "no GPU that is shared in slices"
        raise InputError(f"no node has a slice {wanted.profile}: there is {have}", remedy="name another --accelerator")
    return min(found)
