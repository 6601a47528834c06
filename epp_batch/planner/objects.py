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
from epp_batch.planner.cluster_model import (
    ClusterModel,
    ClusterQueue,
    ClusterQueuePreemption,
    Cohort,
    DeviceClassMapping,
    FlavorQuotas,
    GpuNode,
    GpuSharing,
    KueueObjects,
    ResourceGroup,
    ResourceQuota,
    ResourceTransformation,
    WaitForPodsReady,
)
from epp_batch.planner.planned_job import GPU_RESOURCE, MIG_RESOURCE_PREFIX, parse_resource_quantity

DAS_RESOURCE_PREFIX = "mig.das.com/"
KubeManifest = Mapping[str, Any]


def parse_objects(text: str, source: str) -> list[dict[str, Any]]:
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


def build_cluster_model(
    objects: Iterable[KubeManifest], *, sharing: GpuSharing | None = None, nodes: tuple[GpuNode, ...] = ()
) -> ClusterModel:
    """The cluster that these objects describe; `nodes` where they have none, `sharing` against what nodes show.

    Raises InputError where a field is not what Kubernetes would take.
    """
    kinds: dict[str, list[KubeManifest]] = defaultdict(list)
    for entry in objects:
        kinds[entry["kind"]].append(entry)
    try:
        claimed = {slice_["spec"].get("nodeName") for slice_ in kinds["ResourceSlice"]}
        found = tuple(_parse_node(entry, sharing, entry["metadata"]["name"] in claimed) for entry in kinds["Node"])
        return ClusterModel(nodes=found or nodes, kueue=_parse_kueue_objects(kinds) if kinds["ClusterQueue"] else None)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"an object is not as Kubernetes has it: {error!r}", remedy="check the file") from error


def _parse_kueue_objects(kinds: Mapping[str, list[KubeManifest]]) -> KueueObjects:
    settings = _find_configuration(kinds)
    resources = settings.get("resources") or {}
    return KueueObjects(
        cluster_queues=tuple(_parse_cluster_queue(entry) for entry in kinds["ClusterQueue"]),
        local_queues={entry["metadata"]["name"]: entry["spec"]["clusterQueue"] for entry in kinds["LocalQueue"]},
        cohorts=tuple(_parse_cohort(entry) for entry in kinds["Cohort"]),
        priority_classes={entry["metadata"]["name"]: int(entry["value"]) for entry in kinds["WorkloadPriorityClass"]},
        flavor_node_labels={
            entry["metadata"]["name"]: dict((entry.get("spec") or {}).get("nodeLabels") or {})
            for entry in kinds["ResourceFlavor"]
        },
        transformations=tuple(_parse_transformation(entry) for entry in resources.get("transformations") or ()),
        device_class_mappings={
            name: DeviceClassMapping(
                entry["name"],
                any(source.get("counter", {}).get("name") == "memory" for source in entry.get("sources") or ()),
            )
            for entry in resources.get("deviceClassMappings") or ()
            for name in entry["deviceClassNames"]
        },
        wait_for_pods_ready=_parse_wait_for_pods_ready(settings.get("waitForPodsReady")),
    )


def _find_configuration(kinds: Mapping[str, list[KubeManifest]]) -> Mapping[str, Any]:
    """The manager's Configuration, wherever it is."""
    for entry in kinds["Configuration"]:
        return entry
    for entry in kinds["ConfigMap"]:
        for name, text in (entry.get("data") or {}).items():
            if name.endswith(".yaml") and "config.kueue.x-k8s.io" in text:
                parsed = yaml.safe_load(text)
                return parsed if isinstance(parsed, dict) else {}
    return {}


def _parse_cluster_queue(entry: KubeManifest) -> ClusterQueue:
    spec = entry["spec"]
    preemption, fungibility = spec.get("preemption") or {}, spec.get("flavorFungibility") or {}
    borrow = preemption.get("borrowWithinCohort") or {}
    return ClusterQueue(
        name=entry["metadata"]["name"],
        resource_groups=_parse_resource_groups(spec),
        cohort_name=spec.get("cohortName") or spec.get("cohort") or "",
        is_strict_fifo=spec.get("queueingStrategy") == "StrictFIFO",
        preemption=ClusterQueuePreemption(
            within_cluster_queue=preemption.get("withinClusterQueue", "Never"),
            reclaim_within_cohort=preemption.get("reclaimWithinCohort", "Never"),
            borrow_within_cohort=borrow.get("policy", "Never"),
            max_priority_threshold=borrow.get("maxPriorityThreshold"),
        ),
        when_can_borrow="TryNextFlavor" if fungibility.get("whenCanBorrow") == "TryNextFlavor" else "MayStopSearch",
        when_can_preempt=(
            "MayStopSearch" if fungibility.get("whenCanPreempt") in ("MayStopSearch", "Preempt") else "TryNextFlavor"
        ),
        is_stopped=spec.get("stopPolicy", "None") != "None",
    )


def _parse_cohort(entry: KubeManifest) -> Cohort:
    spec = entry.get("spec") or {}
    parent = spec.get("parentName") or spec.get("parent") or ""
    return Cohort(name=entry["metadata"]["name"], parent_name=parent, resource_groups=_parse_resource_groups(spec))


def _parse_resource_groups(spec: Mapping[str, Any]) -> tuple[ResourceGroup, ...]:
    return tuple(
        ResourceGroup(
            tuple(group["coveredResources"]),
            tuple(
                FlavorQuotas(flavor["name"], {r["name"]: _parse_quota(r) for r in flavor["resources"]})
                for flavor in group["flavors"]
            ),
        )
        for group in spec.get("resourceGroups") or ()
    )


def _parse_quota(entry: Mapping[str, Any]) -> ResourceQuota:
    def of(field: str) -> int | None:
        value = entry.get(field)
        return None if value is None else parse_resource_quantity(value, entry["name"])

    return ResourceQuota(of("nominalQuota") or 0, of("borrowingLimit"), of("lendingLimit"))


def _parse_transformation(entry: Mapping[str, Any]) -> ResourceTransformation:
    return ResourceTransformation(
        input=entry["input"],
        replace=entry.get("strategy") == "Replace",
        outputs={
            name: float(parse_resource_quantity(amount, name)) for name, amount in (entry.get("outputs") or {}).items()
        },
    )


def _parse_wait_for_pods_ready(entry: Mapping[str, Any] | None) -> WaitForPodsReady | None:
    if not entry or entry.get("enable") is False:
        return None
    again = entry.get("requeuingStrategy") or {}
    return WaitForPodsReady(
        timeout=_parse_go_duration(entry.get("timeout", "30m")),
        backoff_base_seconds=float(again.get("backoffBaseSeconds", 60)),
        backoff_max_seconds=float(again.get("backoffMaxSeconds", 3600)),
        backoff_limit_count=again.get("backoffLimitCount"),
        requeues_by_eviction_time=again.get("timestamp", "Eviction") == "Eviction",
    )


def _parse_go_duration(text: str | float) -> float:
    """Go's durations: `5m`, `1h30m`, `90s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", str(text))
    return sum(float(number) * {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}[unit] for number, unit in parts)


def _parse_node(entry: KubeManifest, sharing: GpuSharing | None, claimed: bool) -> GpuNode:
    metadata, status = entry["metadata"], entry.get("status") or {}
    labels = dict(metadata.get("labels") or {})
    there = status.get("allocatable") or status.get("capacity") or {}
    allocatable = {name: parse_resource_quantity(amount, name) for name, amount in there.items()}
    return GpuNode(
        name=metadata["name"],
        gpu_count=_count_gpus(labels, allocatable),
        gpu_model=mig_slots.gpu_model_from_product(labels.get("nvidia.com/gpu.product", "")),
        gpu_sharing=sharing or _detect_gpu_sharing(allocatable, claimed),
        labels=labels,
        allocatable=allocatable,
    )


def _detect_gpu_sharing(allocatable: Mapping[str, int], claimed: bool) -> GpuSharing:
    if any(name.startswith(DAS_RESOURCE_PREFIX) for name in allocatable):
        return "das"
    if claimed and not allocatable.get(GPU_RESOURCE):
        return "dra"
    return (
        "static"
        if any(name.startswith(MIG_RESOURCE_PREFIX) and count for name, count in allocatable.items())
        else "whole"
    )


def _count_gpus(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> int:
    """By label, as GPU feature discovery writes it; by the device plugin; by the whole-GPU slices that DAS counts."""
    if labels.get("nvidia.com/gpu.count", "").isdigit():
        return int(labels["nvidia.com/gpu.count"])
    whole = [
        count
        for name, count in allocatable.items()
        if name.startswith((DAS_RESOURCE_PREFIX + "mig-7g", DAS_RESOURCE_PREFIX + "mig-4g.24"))
    ]
    return allocatable.get(GPU_RESOURCE) or (whole[0] if whole else 0)
