"""Kueue's objects for Whisper Jobs, and the part of its manager's configuration that slices need.

PRESETS are the three queue configurations of arXiv 2602.04900 (one queue; two in a cohort; priorities and preemption)
and two for slices: slots by transformation for the device plugin and the Dynamic Accelerator Slicer, GPU memory by
counters for DRA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from epp_batch.errors import InputError
from epp_batch.manifests.accelerators import GPU, MEMORY, SLOTS, transformations
from epp_batch.manifests.quantities import quantity, show

VERSION = "kueue.x-k8s.io/v1beta2"
SLICES = {
    "A100-40": (40, ("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")),
    "A100-80": (80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-80": (80, ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")),
    "H100-94": (94, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb")),
    "H100-96": (96, ("1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb")),
    "H200-141": (141, ("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")),
    "A30": (24, ("1g.6gb", "2g.12gb", "4g.24gb")),
}
"""GPU -> its memory in GiB, and its MIG profiles. 1g.10gb of a 40 GB A100, two slots wide, is left out: its name is
that of an 80 GB GPU's single slot."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Of one resource in one flavor."""

    nominal: str
    borrowing: str | None = None
    """Most that may be borrowed; None for no limit. Needs a cohort."""
    lending: str | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One ClusterQueue with the LocalQueues in front of it."""

    name: str
    local: tuple[str, ...]
    quotas: dict[str, Quota]
    preemption: dict[str, Any] = {}
    strategy: str = "BestEffortFIFO"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `objects` makes."""

    namespace: str
    flavor: str = "gpu-flavor"
    node_labels: dict[str, str] = msgspec.field(default_factory=lambda: {"nvidia.com/gpu.present": "true"})
    tolerations: tuple[dict[str, str], ...] = ()
    queues: tuple[Queue, ...]
    cohort: str | None = None
    priorities: dict[str, int] = {}
    profiles: tuple[str, ...] = ()
    """Slices that are charged as slots."""
    claims: bool = False
    """Device classes are charged by GPU memory."""
    cover: dict[str, str] = {}
    """Further resources of every queue, as cpu or memory, with their quotas."""

    def prefixed(self, prefix: str) -> Settings:
        """The same with `prefix` before every name that the whole cluster shares."""
        rename = msgspec.structs.replace
        return rename(
            self,
            flavor=prefix + self.flavor,
            cohort=prefix + self.cohort if self.cohort else None,
            priorities={prefix + name: value for name, value in self.priorities.items()},
            queues=tuple(rename(queue, name=prefix + queue.name) for queue in self.queues),
        )


def objects(settings: Settings) -> list[dict[str, Any]]:
    """ResourceFlavor, Cohort, WorkloadPriorityClasses, ClusterQueues and LocalQueues, in an order to make them in."""
    made = [_flavor(settings)]
    if settings.cohort:
        made.append(_object("Cohort", settings.cohort, {}))
    for name, value in settings.priorities.items():
        made.append(
            {"apiVersion": VERSION, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        )
    made += [_cluster_queue(queue, settings) for queue in settings.queues]
    for queue in settings.queues:
        for name in queue.local:
            local = _object("LocalQueue", name, {"clusterQueue": queue.name})
            local["metadata"]["namespace"] = settings.namespace
            made.append(local)
    return made


def configuration(settings: Settings) -> dict[str, Any]:
    """What the Kueue manager's own configuration needs for these queues; empty where it needs nothing.

    `waitForPodsReady` takes quota back from a pod whose slice does not exist: quota counts slots, not holes.
    """
    resources: dict[str, Any] = {}
    if settings.profiles:
        resources["transformations"] = transformations(settings.profiles)
    if settings.claims:
        counter = {
            "name": "memory",
            "driver": "gpu.nvidia.com",
            "deviceSelector": {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}},
        }
        classes = ["mig.nvidia.com", "gpu.nvidia.com"]
        resources["deviceClassMappings"] = [
            {"name": MEMORY, "deviceClassNames": classes, "sources": [{"counter": counter}]}
        ]
    if not resources:
        return {}
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "resources": resources,
        "waitForPodsReady": {"timeout": "10m", "requeuingStrategy": {"timestamp": "Creation"}},
    }


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _flavor(settings: Settings) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeLabels": dict(settings.node_labels)} if settings.node_labels else {}
    if settings.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in settings.tolerations]
    return _object("ResourceFlavor", settings.flavor, spec)


def _cluster_queue(queue: Queue, settings: Settings) -> dict[str, Any]:
    quotas = queue.quotas | {name: Quota(nominal=amount) for name, amount in settings.cover.items()}
    resources = [_quota(name, quota, settings.cohort) for name, quota in quotas.items()]
    spec: dict[str, Any] = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "queueingStrategy": queue.strategy,
        "resourceGroups": [
            {"coveredResources": list(quotas), "flavors": [{"name": settings.flavor, "resources": resources}]}
        ],
    }
    if settings.cohort:
        spec["cohortName"] = settings.cohort
    if queue.preemption:
        spec["preemption"] = dict(queue.preemption)
    return _object("ClusterQueue", queue.name, spec)


def _quota(name: str, quota: Quota, cohort: str | None) -> dict[str, Any]:
    limits = {"borrowingLimit": quota.borrowing, "lendingLimit": quota.lending} if cohort else {}
    return {"name": name, "nominalQuota": quota.nominal} | {key: at for key, at in limits.items() if at is not None}


# -- presets --------------------------------------------------------------------------------------------------


class Preset(msgspec.Struct, frozen=True):
    """A configuration by name."""

    about: str
    make: Callable[[str, int, str], Settings]
    """From namespace, number of GPUs and their kind (a key of SLICES)."""


def preset(name: str, namespace: str, gpus: int, gpu: str = "A100-40") -> Settings:
    """A preset's settings; InputError for an unknown name or GPU."""
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is unknown", remedy=f"one of {', '.join(PRESETS)}")
    if gpu not in SLICES:
        raise InputError(f"GPU {gpu!r} is unknown", remedy=f"one of {', '.join(SLICES)}")
    return PRESETS[name].make(namespace, gpus, gpu)


def _one_queue(namespace: str, gpus: int, _: str) -> Settings:
    queue = Queue(name="cluster-queue", local=PAPER_LOCAL, quotas={GPU: Quota(nominal=str(gpus))})
    return Settings(namespace=namespace, queues=(queue,))


def _two_queues(namespace: str, gpus: int, _: str) -> Settings:
    half = gpus // 2
    medium = Quota(nominal=str(half), borrowing="0", lending=str(half))
    large = Quota(nominal=str(gpus - half))
    return Settings(
        namespace=namespace,
        cohort="gpu-cohort",
        queues=(
            Queue(name="cluster-queue-medium", local=PAPER_LOCAL[:1], quotas={GPU: medium}),
            Queue(name="cluster-queue-large", local=PAPER_LOCAL[1:], quotas={GPU: large}),
        ),
    )


def _priorities(namespace: str, gpus: int, gpu: str) -> Settings:
    one = _one_queue(namespace, gpus, gpu)
    queue = msgspec.structs.replace(one.queues[0], preemption={"withinClusterQueue": "LowerPriority"})
    return msgspec.structs.replace(one, queues=(queue,), priorities={"high-priority": 10_000})


def _slots(namespace: str, gpus: int, gpu: str) -> Settings:
    queue = Queue(name="mig-slots", local=("whisper",), quotas={SLOTS: Quota(nominal=str(8 * gpus))})
    labels = {"nvidia.com/mig.capable": "true"}
    return Settings(
        namespace=namespace, flavor="mig-flavor", node_labels=labels, queues=(queue,), profiles=SLICES[gpu][1]
    )


def _claims(namespace: str, gpus: int, gpu: str) -> Settings:
    memory = show(quantity(f"{gpus * SLICES[gpu][0]}Gi"))
    queue = Queue(name="dra", local=("whisper",), quotas={MEMORY: Quota(nominal=memory)})
    return Settings(namespace=namespace, flavor="dra-flavor", node_labels={}, queues=(queue,), claims=True)


PAPER_LOCAL = ("local-queue-medium", "local-queue-large")
PRESETS: dict[str, Preset] = {
    "paper-a": Preset("one queue over all GPUs, first come first served", _one_queue),
    "paper-b": Preset("a queue a model in one cohort: medium lends and never borrows, large borrows", _two_queues),
    "paper-c": Preset("one queue, and a class of priority 10000 that preempts", _priorities),
    "slots": Preset("MIG slices of all profiles share one quota of slots, eight a GPU", _slots),
    "dra": Preset("DRA claims of slices and GPUs share one quota of GPU memory", _claims),
}
