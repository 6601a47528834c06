"""A World from Kubernetes objects as `kubectl get -o yaml` prints them and `epp-batch queues` writes them.

Read are Node, ResourceSlice, Kueue's ResourceFlavor, ClusterQueue, Cohort, LocalQueue and WorkloadPriorityClass of both
API versions, and the manager's Configuration, bare or in its ConfigMap. Other kinds are passed over.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from epp_batch.errors import InputError
from epp_batch.planner import mig_slots
from epp_batch.planner.demand import GPU, MIG, quantity
from epp_batch.planner.world import (
    ClusterQueue,
    Cohort,
    DeviceClass,
    Group,
    Kueue,
    Node,
    Offer,
    PodsReady,
    Preemption,
    Quota,
    Sharing,
    Transformation,
    World,
)

DAS = "mig.das.com/"
Object = Mapping[str, Any]


def read(text: str, source: str) -> list[dict[str, Any]]:
    """The objects of a YAML stream, Lists opened; InputError with the file's name when it is not YAML."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"{source}:{line + 1}" if line is not None else source
        raise InputError(f"{where}: not YAML", remedy="write the objects with kubectl get -o yaml") from error
    out: list[dict[str, Any]] = []
    for document in documents:
        if not isinstance(document, dict) or "kind" not in document:
            raise InputError(f"{source}: a document has no kind", remedy="give Kubernetes objects")
        out += document.get("items") or [] if document["kind"].endswith("List") else [document]
    return out


def world(objects: Iterable[Object], *, sharing: Sharing | None = None, nodes: tuple[Node, ...] = ()) -> World:
    """The cluster that these objects describe; `nodes` where they have none, `sharing` against what nodes show.

    Raises InputError where a field is not what Kubernetes would take.
    """
    kinds: dict[str, list[Object]] = defaultdict(list)
    for entry in objects:
        kinds[entry["kind"]].append(entry)
    try:
        claimed = {slice_["spec"].get("nodeName") for slice_ in kinds["ResourceSlice"]}
        found = tuple(_node(entry, sharing, entry["metadata"]["name"] in claimed) for entry in kinds["Node"])
        return World(nodes=found or nodes, kueue=_kueue(kinds) if kinds["ClusterQueue"] else None)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"an object is not as Kubernetes has it: {error!r}", remedy="check the file") from error


def _kueue(kinds: Mapping[str, list[Object]]) -> Kueue:
    settings = _settings(kinds)
    resources = settings.get("resources") or {}
    return Kueue(
        queues=tuple(_queue(entry) for entry in kinds["ClusterQueue"]),
        local={entry["metadata"]["name"]: entry["spec"]["clusterQueue"] for entry in kinds["LocalQueue"]},
        cohorts=tuple(_cohort(entry) for entry in kinds["Cohort"]),
        priorities={entry["metadata"]["name"]: int(entry["value"]) for entry in kinds["WorkloadPriorityClass"]},
        flavors={
            entry["metadata"]["name"]: dict((entry.get("spec") or {}).get("nodeLabels") or {})
            for entry in kinds["ResourceFlavor"]
        },
        transformations=tuple(_transformation(entry) for entry in resources.get("transformations") or ()),
        device_classes={
            name: DeviceClass(
                entry["name"],
                any(source.get("counter", {}).get("name") == "memory" for source in entry.get("sources") or ()),
            )
            for entry in resources.get("deviceClassMappings") or ()
            for name in entry["deviceClassNames"]
        },
        pods_ready=_pods_ready(settings.get("waitForPodsReady")),
    )


def _settings(kinds: Mapping[str, list[Object]]) -> Mapping[str, Any]:
    """The manager's Configuration, wherever it is."""
    for entry in kinds["Configuration"]:
        return entry
    for entry in kinds["ConfigMap"]:
        for name, text in (entry.get("data") or {}).items():
            if name.endswith(".yaml") and "config.kueue.x-k8s.io" in text:
                parsed = yaml.safe_load(text)
                return parsed if isinstance(parsed, dict) else {}
    return {}


def _queue(entry: Object) -> ClusterQueue:
    spec = entry["spec"]
    preemption, fungibility = spec.get("preemption") or {}, spec.get("flavorFungibility") or {}
    borrow = preemption.get("borrowWithinCohort") or {}
    return ClusterQueue(
        name=entry["metadata"]["name"],
        groups=_groups(spec),
        cohort=spec.get("cohortName") or spec.get("cohort") or "",
        strict=spec.get("queueingStrategy") == "StrictFIFO",
        preemption=Preemption(
            within=preemption.get("withinClusterQueue", "Never"),
            reclaim=preemption.get("reclaimWithinCohort", "Never"),
            borrow=borrow.get("policy", "Never"),
            threshold=borrow.get("maxPriorityThreshold"),
        ),
        when_can_borrow="TryNextFlavor" if fungibility.get("whenCanBorrow") == "TryNextFlavor" else "MayStopSearch",
        when_can_preempt=(
            "MayStopSearch" if fungibility.get("whenCanPreempt") in ("MayStopSearch", "Preempt") else "TryNextFlavor"
        ),
        stopped=spec.get("stopPolicy", "None") != "None",
    )


def _cohort(entry: Object) -> Cohort:
    spec = entry.get("spec") or {}
    parent = spec.get("parentName") or spec.get("parent") or ""
    return Cohort(name=entry["metadata"]["name"], parent=parent, groups=_groups(spec))


def _groups(spec: Mapping[str, Any]) -> tuple[Group, ...]:
    return tuple(
        Group(
            tuple(group["coveredResources"]),
            tuple(
                Offer(flavor["name"], {r["name"]: _quota(r) for r in flavor["resources"]})
                for flavor in group["flavors"]
            ),
        )
        for group in spec.get("resourceGroups") or ()
    )


def _quota(entry: Mapping[str, Any]) -> Quota:
    def of(field: str) -> int | None:
        value = entry.get(field)
        return None if value is None else quantity(value, entry["name"])

    return Quota(of("nominalQuota") or 0, of("borrowingLimit"), of("lendingLimit"))


def _transformation(entry: Mapping[str, Any]) -> Transformation:
    return Transformation(
        input=entry["input"],
        replace=entry.get("strategy") == "Replace",
        outputs={name: float(quantity(amount, name)) for name, amount in (entry.get("outputs") or {}).items()},
    )


def _pods_ready(entry: Mapping[str, Any] | None) -> PodsReady | None:
    if not entry or entry.get("enable") is False:
        return None
    again = entry.get("requeuingStrategy") or {}
    return PodsReady(
        timeout=_seconds(entry.get("timeout", "30m")),
        backoff_base=float(again.get("backoffBaseSeconds", 60)),
        backoff_max=float(again.get("backoffMaxSeconds", 3600)),
        backoff_limit=again.get("backoffLimitCount"),
        by_eviction=again.get("timestamp", "Eviction") == "Eviction",
    )


def _seconds(text: str | float) -> float:
    """Go's durations: `5m`, `1h30m`, `90s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", str(text))
    return sum(float(number) * {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}[unit] for number, unit in parts)


def _node(entry: Object, sharing: Sharing | None, claimed: bool) -> Node:
    metadata, status = entry["metadata"], entry.get("status") or {}
    labels = dict(metadata.get("labels") or {})
    there = status.get("allocatable") or status.get("capacity") or {}
    allocatable = {name: quantity(amount, name) for name, amount in there.items()}
    return Node(
        name=metadata["name"],
        gpus=_gpus(labels, allocatable),
        gpu=mig_slots.model_of(labels.get("nvidia.com/gpu.product", "")),
        sharing=sharing or _shared(allocatable, claimed),
        labels=labels,
        allocatable=allocatable,
    )


def _shared(allocatable: Mapping[str, int], claimed: bool) -> Sharing:
    if any(name.startswith(DAS) for name in allocatable):
        return "das"
    if claimed and not allocatable.get(GPU):
        return "dra"
    return "static" if any(name.startswith(MIG) and count for name, count in allocatable.items()) else "whole"


def _gpus(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> int:
    """By label, as GPU feature discovery writes it; by the device plugin; by the whole-GPU slices that DAS counts."""
    if labels.get("nvidia.com/gpu.count", "").isdigit():
        return int(labels["nvidia.com/gpu.count"])
    whole = [count for name, count in allocatable.items() if name.startswith((DAS + "mig-7g", DAS + "mig-4g.24"))]
    return allocatable.get(GPU) or (whole[0] if whole else 0)
