"""Whether any node could run a pod, if no other pod ran on it: labels, taints, allocatable resources, DRA devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from epp.errors import Problem
from epp_batch.manifests import KubeObject, accelerators
from epp_batch.manifests.quantities import format_quantity, parse_quantity
from epp_batch.spec import ClusterOptions, Placement


def check_node_capacity(
    cluster: ClusterOptions,
    placement: Placement,
    flavors: Sequence[KubeObject],
    nodes: Sequence[KubeObject],
    models: str,
) -> Iterator[Problem]:
    """Yields one problem if no node of any of the flavors can hold a pod.

    Yields nothing if a flavor has topology-aware scheduling: there Kueue itself counts the nodes' free capacity.
    """
    requested = _build_node_requests(placement)
    reasons: list[str] = []
    for flavor in flavors:
        spec = flavor.get("spec") or {}
        labels = {**(spec.get("nodeLabels") or {}), **cluster.node_selector}
        if spec.get("topologyName"):
            return
        reason = _explain_no_node(nodes, labels, spec.get("tolerations") or (), requested)
        if reason is None:
            return
        reasons.append(f"flavor {flavor['metadata']['name']}: {reason}")
    remedy = "add nodes, label them as the flavor requires, or choose another --accelerator"
    yield Problem("nodes", f"none can run {models} ({'; '.join(reasons)}); {remedy}")


def check_dra_devices(placement: Placement, slices: Sequence[KubeObject], models: str) -> Iterator[Problem]:
    """Yields one problem if the pods claim a device that no ResourceSlice publishes."""
    accelerator = accelerators.parse_accelerator(placement.accelerator)
    if not isinstance(accelerator, accelerators.DraDevice):
        return
    profiles: set[str] = set()
    for resource_slice in slices:
        spec = resource_slice["spec"]
        for device in spec.get("devices") or () if spec["driver"] == accelerators.DRA_DRIVER else ():
            attributes = device.get("attributes") or {}
            profile = attributes.get("profile") or attributes.get(f"{accelerators.DRA_DRIVER}/profile") or {}
            profiles.add(profile.get("string", ""))
    if (accelerator.profile or "") not in profiles:
        requested = accelerator.profile or "whole GPU"
        published = ", ".join(sorted(profile or "whole GPU" for profile in profiles)) or "nothing"
        remedy = "choose another --accelerator, or check that NVIDIA's DRA driver runs with MIG"
        yield Problem(
            "ResourceSlices", f"no node publishes a {requested} for {models}; published: {published}; {remedy}"
        )


def is_tolerated(taint: KubeObject, tolerations: Iterable[KubeObject]) -> bool:
    """Whether a toleration matches the taint, by the rules of Kubernetes' Toleration.ToleratesTaint."""
    return any(
        toleration.get("key") in {None, "", taint["key"]}
        and toleration.get("effect") in {None, "", taint.get("effect")}
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in tolerations
    )


def _build_node_requests(placement: Placement) -> dict[str, Fraction]:
    requested = {
        name: parse_quantity(text) for name, text in (("cpu", placement.cpu), ("memory", placement.memory)) if text
    }
    if resource := accelerators.parse_accelerator(placement.accelerator).node_resource:
        requested[resource[0]] = Fraction(resource[1])
    return requested


def _explain_no_node(
    nodes: Sequence[KubeObject],
    labels: dict[str, str],
    tolerations: Sequence[KubeObject],
    requested: dict[str, Fraction],
) -> str | None:
    """Why no node fits; None if one does."""
    labelled = [node for node in nodes if _has_labels(node, labels)]
    if not nodes:
        return "the cluster has no nodes"
    if not labelled:
        return f"no node has {', '.join(f'{name}={value}' for name, value in labels.items())}"
    schedulable = [node for node in labelled if not _is_unschedulable(node, tolerations)]
    if not schedulable:
        return "all its nodes are cordoned or have untolerated taints"
    if any(_has_capacity(node, requested) for node in schedulable):
        return None
    largest = {name: max(_allocatable_amount(node, name) for node in schedulable) for name in requested}
    return "a node has at most " + ", ".join(f"{format_quantity(amount)} {name}" for name, amount in largest.items())


def _has_labels(node: KubeObject, labels: dict[str, str]) -> bool:
    present = node["metadata"].get("labels") or {}
    return all(present.get(name) == value for name, value in labels.items())


def _is_unschedulable(node: KubeObject, tolerations: Sequence[KubeObject]) -> bool:
    """Whether the node is cordoned or has an untolerated taint of effect NoSchedule or NoExecute.

    Taints with the prefix `node.kubernetes.io/` do not count: they follow the node's health, so they are transient.
    """
    spec = node.get("spec") or {}
    return bool(spec.get("unschedulable")) or any(
        taint.get("effect") in {"NoSchedule", "NoExecute"}
        and not taint["key"].startswith("node.kubernetes.io/")
        and not is_tolerated(taint, tolerations)
        for taint in spec.get("taints") or ()
    )


def _has_capacity(node: KubeObject, requested: dict[str, Fraction]) -> bool:
    return all(_allocatable_amount(node, name) >= amount for name, amount in requested.items())


def _allocatable_amount(node: KubeObject, name: str) -> Fraction:
    """The node's allocatable amount; the Dynamic Accelerator Slicer advertises MIG slices under its own prefix."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    own = parse_quantity(allocatable.get(name, 0))
    return max(own, parse_quantity(allocatable.get(name.replace("nvidia.com/", "mig.das.com/", 1), 0)))
