"""What the planner knows of a cluster: its nodes with their GPUs, and Kueue's objects.

Amounts are whole numbers: pieces of an extended resource, thousandths of a CPU, bytes of memory.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Amounts = dict[str, int]
"""Resource name -> amount."""

Sharing = Literal["whole", "das", "dra", "static"]
"""How a node gives its GPUs away: undivided, in slices that DAS cuts first fit, in slices that a DRA driver offers as
partitionable devices, or in slices that somebody cut beforehand."""

Policy = Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority", "Any"]


class Quota(msgspec.Struct, frozen=True):
    """Of one resource in one flavor; no limit where None."""

    nominal: int
    borrowing: int | None = None
    lending: int | None = None


class Offer(msgspec.Struct, frozen=True):
    """One flavor within a resource group."""

    flavor: str
    quotas: dict[str, Quota]


class Group(msgspec.Struct, frozen=True):
    """Resources that are assigned together, all from one of the flavors, tried in this order."""

    covered: tuple[str, ...]
    offers: tuple[Offer, ...]


class Preemption(msgspec.Struct, frozen=True, kw_only=True):
    """ClusterQueue.spec.preemption."""

    within: Policy = "Never"
    reclaim: Policy = "Never"
    borrow: Literal["Never", "LowerPriority"] = "Never"
    threshold: int | None = None


class ClusterQueue(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    groups: tuple[Group, ...]
    cohort: str = ""
    strict: bool = False
    preemption: Preemption = Preemption()
    when_can_borrow: Literal["MayStopSearch", "TryNextFlavor"] = "MayStopSearch"
    when_can_preempt: Literal["MayStopSearch", "TryNextFlavor"] = "TryNextFlavor"
    stopped: bool = False


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    parent: str = ""
    groups: tuple[Group, ...] = ()


class Transformation(msgspec.Struct, frozen=True, kw_only=True):
    """Kueue's `resources.transformations`: what a request counts as."""

    input: str
    replace: bool = False
    outputs: dict[str, float] = {}


class DeviceClass(msgspec.Struct, frozen=True):
    """Kueue's `resources.deviceClassMappings`: what a claim counts as."""

    resource: str
    by_memory: bool = False
    """By the counter `memory` that the device consumes, in bytes; else one a device."""


class PodsReady(msgspec.Struct, frozen=True, kw_only=True):
    """Kueue's `waitForPodsReady`; seconds."""

    timeout: float = 300.0
    backoff_base: float = 60.0
    backoff_max: float = 3600.0
    backoff_limit: int | None = None
    by_eviction: bool = True
    """Whoever came back queues by the time of the eviction, not of the creation."""


class Kueue(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that Kueue decides by."""

    queues: tuple[ClusterQueue, ...]
    local: dict[str, str]
    """LocalQueue -> ClusterQueue."""
    cohorts: tuple[Cohort, ...] = ()
    priorities: dict[str, int] = {}
    """WorkloadPriorityClass -> value."""
    flavors: dict[str, dict[str, str]] = {}
    """ResourceFlavor -> node labels."""
    transformations: tuple[Transformation, ...] = ()
    device_classes: dict[str, DeviceClass] = {}
    pods_ready: PodsReady | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    gpus: int = 8
    gpu: str = ""
    """GPU model, a key of slots.PROFILES where it is to be sliced."""
    sharing: Sharing = "whole"
    labels: dict[str, str] = {}
    allocatable: Amounts = {}
    """CPU, memory and, for `static`, the slices; a resource that is not named is not limited."""


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane takes, in seconds."""

    submit: float = 0.0
    """Between two Jobs of one submission."""
    requeue: float = 1.0
    """Kueue lets so much time pass between freed quota and another look at those that did not fit."""
    start: float = 0.0
    """From admission to the running container."""
    stop: float = 0.0
    """From eviction to freed quota: the worker puts away what it has."""
    finish: float = 0.0
    """From the end of the container to freed quota."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster to plan for. Without `kueue` every Job goes to the scheduler at once."""

    nodes: tuple[Node, ...]
    kueue: Kueue | None = None
    delays: Delays = Delays()
    resumes: bool = True
    """A preempted worker goes on where it was; openai/whisper starts anew."""


def machine(count: int = 1, *, gpus: int = 8, gpu: str = "A100-40", sharing: Sharing = "whole") -> tuple[Node, ...]:
    """So many equal nodes with the labels of NVIDIA's feature discovery."""
    labels = {"nvidia.com/gpu.present": "true"} | ({} if sharing == "whole" else {"nvidia.com/mig.capable": "true"})
    return tuple(Node(name=f"node-{i}", gpus=gpus, gpu=gpu, sharing=sharing, labels=labels) for i in range(count))
