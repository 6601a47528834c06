"""Builds a ClusterModel from Kubernetes manifests, as `kubectl get -o yaml` prints and `epp-batch queues` writes them.

It reads Node, ResourceSlice, Kueue's ResourceFlavor, ClusterQueue, Cohort, LocalQueue and WorkloadPriorityClass in both
API versions, and the manager's Configuration, bare or in its ConfigMap. Other kinds are ignored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import yaml

from epp_batch.errors import InputError
from epp_batch.manifests.quantities import parse_quantity
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
from epp_batch.planner.planned_job import (
    GPU_RESOURCE,
    MIG_RESOURCE_PREFIX,
    parse_resource_quantity,
    units_of_resource,
)

DAS_RESOURCE_PREFIX = "mig.das.com/"
KubeManifest = Mapping[str, Any]


def parse_objects(text: str, source: str) -> list[dict[str, Any]]:
    """The objects of a YAML stream, with Lists flattened.

    Raises InputError that names `source` and the line when it is not YAML, and when a document is not an object.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        position = f"{source}:{line + 1}" if line is not None else source
        raise InputError(f"{position}: invalid YAML", remedy="write the objects with kubectl get -o yaml") from error
    objects: list[dict[str, Any]] = []
    for document in documents:
        if not isinstance(document, dict) or "kind" not in document:
            raise InputError(f"{source}: a document has no kind", remedy="give Kubernetes objects")
        objects += document.get("items") or [] if document["kind"].endswith("List") else [document]
    return objects


def build_cluster_model(
    objects: Iterable[KubeManifest], *, sharing: GpuSharing | None = None, nodes: tuple[GpuNode, ...] = ()
) -> ClusterModel:
    """The cluster that these objects describe.

    `nodes` stand in where there is no Node; `sharing` overrides what Nodes show. Without a ClusterQueue the model has
    no Kueue. Raises InputError where a field is missing or has another type than in Kubernetes.
    """
    by_kind: dict[str, list[KubeManifest]] = defaultdict(list)
    for manifest in objects:
        by_kind[manifest["kind"]].append(manifest)
    try:
        nodes_with_slices = {manifest["spec"].get("nodeName") for manifest in by_kind["ResourceSlice"]}
        parsed_nodes = tuple(
            _parse_node(manifest, sharing, manifest["metadata"]["name"] in nodes_with_slices)
            for manifest in by_kind["Node"]
        )
        kueue = _parse_kueue_objects(by_kind) if by_kind["ClusterQueue"] else None
        return ClusterModel(nodes=parsed_nodes or nodes, kueue=kueue)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"invalid Kubernetes object: {error!r}", remedy="check the file") from error


def _parse_kueue_objects(by_kind: Mapping[str, list[KubeManifest]]) -> KueueObjects:
    configuration = _find_configuration(by_kind)
    resources = configuration.get("resources") or {}
    return KueueObjects(
        cluster_queues=tuple(_parse_cluster_queue(manifest) for manifest in by_kind["ClusterQueue"]),
        local_queues={
            manifest["metadata"]["name"]: manifest["spec"]["clusterQueue"] for manifest in by_kind["LocalQueue"]
        },
        cohorts=tuple(_parse_cohort(manifest) for manifest in by_kind["Cohort"]),
        priority_classes={
            manifest["metadata"]["name"]: int(manifest["value"]) for manifest in by_kind["WorkloadPriorityClass"]
        },
        flavor_node_labels={
            manifest["metadata"]["name"]: dict((manifest.get("spec") or {}).get("nodeLabels") or {})
            for manifest in by_kind["ResourceFlavor"]
        },
        transformations=tuple(_parse_transformation(entry) for entry in resources.get("transformations") or ()),
        device_class_mappings={
            device_class: DeviceClassMapping(
                entry["name"],
                any(source.get("counter", {}).get("name") == "memory" for source in entry.get("sources") or ()),
            )
            for entry in resources.get("deviceClassMappings") or ()
            for device_class in entry["deviceClassNames"]
        },
        wait_for_pods_ready=_parse_wait_for_pods_ready(configuration.get("waitForPodsReady")),
    )


def _find_configuration(by_kind: Mapping[str, list[KubeManifest]]) -> Mapping[str, Any]:
    """The manager's Configuration, as an object or as the file in its ConfigMap; empty if there is none."""
    for manifest in by_kind["Configuration"]:
        return manifest
    for manifest in by_kind["ConfigMap"]:
        for name, text in (manifest.get("data") or {}).items():
            if name.endswith(".yaml") and "config.kueue.x-k8s.io" in text:
                configuration = yaml.safe_load(text)
                return configuration if isinstance(configuration, dict) else {}
    return {}


def _parse_cluster_queue(manifest: KubeManifest) -> ClusterQueue:
    """Field names of v1beta2, or else of v1beta1 (`cohort`, and `Preempt` for `MayStopSearch`)."""
    spec = manifest["spec"]
    preemption, fungibility = spec.get("preemption") or {}, spec.get("flavorFungibility") or {}
    borrow_within_cohort = preemption.get("borrowWithinCohort") or {}
    stops_search = fungibility.get("whenCanPreempt") in ("MayStopSearch", "Preempt")
    return ClusterQueue(
        name=manifest["metadata"]["name"],
        resource_groups=_parse_resource_groups(spec),
        cohort_name=spec.get("cohortName") or spec.get("cohort") or "",
        is_strict_fifo=spec.get("queueingStrategy") == "StrictFIFO",
        preemption=ClusterQueuePreemption(
            within_cluster_queue=preemption.get("withinClusterQueue", "Never"),
            reclaim_within_cohort=preemption.get("reclaimWithinCohort", "Never"),
            borrow_within_cohort=borrow_within_cohort.get("policy", "Never"),
            max_priority_threshold=borrow_within_cohort.get("maxPriorityThreshold"),
        ),
        when_can_borrow="TryNextFlavor" if fungibility.get("whenCanBorrow") == "TryNextFlavor" else "MayStopSearch",
        when_can_preempt="MayStopSearch" if stops_search else "TryNextFlavor",
        is_stopped=spec.get("stopPolicy", "None") != "None",
    )


def _parse_cohort(manifest: KubeManifest) -> Cohort:
    spec = manifest.get("spec") or {}
    parent_name = spec.get("parentName") or spec.get("parent") or ""
    return Cohort(
        name=manifest["metadata"]["name"], parent_name=parent_name, resource_groups=_parse_resource_groups(spec)
    )


def _parse_resource_groups(spec: Mapping[str, Any]) -> tuple[ResourceGroup, ...]:
    return tuple(
        ResourceGroup(
            tuple(group["coveredResources"]),
            tuple(
                FlavorQuotas(
                    flavor["name"], {resource["name"]: _parse_quota(resource) for resource in flavor["resources"]}
                )
                for flavor in group["flavors"]
            ),
        )
        for group in spec.get("resourceGroups") or ()
    )


def _parse_quota(entry: Mapping[str, Any]) -> ResourceQuota:
    nominal, borrowing_limit, lending_limit = (
        None if (value := entry.get(field)) is None else parse_resource_quantity(value, entry["name"])
        for field in ("nominalQuota", "borrowingLimit", "lendingLimit")
    )
    return ResourceQuota(nominal or 0, borrowing_limit, lending_limit)


def _parse_transformation(entry: Mapping[str, Any]) -> ResourceTransformation:
    resource = entry["input"]
    outputs: dict[str, Fraction | float] = {}
    for name, amount in (entry.get("outputs") or {}).items():
        factor = parse_quantity(amount) * units_of_resource(name) / units_of_resource(resource)
        outputs[name] = int(factor) if factor.denominator == 1 else factor  # a simulation multiplies ints faster
    return ResourceTransformation(input=resource, replace=entry.get("strategy") == "Replace", outputs=outputs)


def _parse_wait_for_pods_ready(entry: Mapping[str, Any] | None) -> WaitForPodsReady | None:
    """The defaults of fields are Kueue's; None where the block is missing, or disabled by v1beta1's `enable: false`.

    Kueue v0.19 itself reads a missing block as an empty one (SetDefaults_Configuration) and evicts after 30 minutes;
    here nothing is evicted without the block, since a missing block may be a Configuration that was not given.
    """
    if not entry or entry.get("enable") is False:
        return None
    requeuing = entry.get("requeuingStrategy") or {}
    return WaitForPodsReady(
        timeout=_parse_go_duration(entry.get("timeout", "30m")),
        backoff_base_seconds=float(requeuing.get("backoffBaseSeconds", 60)),
        backoff_max_seconds=float(requeuing.get("backoffMaxSeconds", 3600)),
        backoff_limit_count=requeuing.get("backoffLimitCount"),
        requeues_by_eviction_time=requeuing.get("timestamp", "Eviction") == "Eviction",
    )


def _parse_go_duration(text: str | float) -> float:
    """Seconds of a Go duration: `5m`, `1h30m`, `90s`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", str(text))
    return sum(float(number) * {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}[unit] for number, unit in parts)


def _parse_node(manifest: KubeManifest, sharing: GpuSharing | None, has_resource_slices: bool) -> GpuNode:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    labels = dict(metadata.get("labels") or {})
    amounts = status.get("allocatable") or status.get("capacity") or {}
    allocatable = {name: parse_resource_quantity(amount, name) for name, amount in amounts.items()}
    return GpuNode(
        name=metadata["name"],
        gpu_count=_count_gpus(labels, allocatable),
        gpu_model=mig_slots.gpu_model_from_product(labels.get("nvidia.com/gpu.product", "")),
        gpu_sharing=sharing or _detect_gpu_sharing(allocatable, has_resource_slices),
        labels=labels,
        allocatable=allocatable,
    )


def _detect_gpu_sharing(allocatable: Mapping[str, int], has_resource_slices: bool) -> GpuSharing:
    if any(name.startswith(DAS_RESOURCE_PREFIX) for name in allocatable):
        return "das"
    if has_resource_slices and not allocatable.get(GPU_RESOURCE):
        return "dra"
    has_mig_slices = any(name.startswith(MIG_RESOURCE_PREFIX) and count for name, count in allocatable.items())
    return "static" if has_mig_slices else "whole"


def _count_gpus(labels: Mapping[str, str], allocatable: Mapping[str, int]) -> int:
    """From the label of GPU feature discovery, else the device plugin's resource, else the whole-GPU slices of DAS."""
    if labels.get("nvidia.com/gpu.count", "").isdigit():
        return int(labels["nvidia.com/gpu.count"])
    whole_gpu_slices = (DAS_RESOURCE_PREFIX + "mig-7g", DAS_RESOURCE_PREFIX + "mig-4g.24")
    counts = [count for name, count in allocatable.items() if name.startswith(whole_gpu_slices)]
    return allocatable.get(GPU_RESOURCE) or (counts[0] if counts else 0)
