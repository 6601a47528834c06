"""Whether any node could take a pod: labels, taints, devices, and what it can allocate when it is empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from epp.errors import Problem
from epp_batch.manifests import accelerators
from epp_batch.manifests.quantities import format_quantity, parse_quantity
from epp_batch.spec import ClusterOptions, Placement

Object = dict[str, Any]


def check_node_capacity(
    cluster: ClusterOptions, placement: Placement, flavors: Sequence[Object], nodes: Sequence[Object], whose: str
) -> Iterator[Problem]:
    """One problem when no node fits any of the flavors; nothing otherwise."""
    wanted = _build_node_requests(placement)
    reasons: list[str] = []
    for flavor in flavors:
        spec = flavor.get("spec") or {}
        labels = {**(spec.get("nodeLabels") or {}), **cluster.node_selector}
        if spec.get("topologyName"):
            return
        reason = _explain_no_node(nodes, labels, spec.get("tolerations") or (), wanted)
        if reason is None:
            return
        reasons.append(f"flavor {flavor['metadata']['name']}: {reason}")
    way = "add nodes, label them as the flavor says, or another --accelerator"
    yield Problem("nodes", f"none can run {whose} ({'; '.join(reasons)}); {way}")


def check_dra_devices(placement: Placement, slices: Sequence[Object], whose: str) -> Iterator[Problem]:
    """One problem when a claim is made for devices that no node publishes."""
    accelerator = accelerators.parse_accelerator(placement.accelerator)
    if not isinstance(accelerator, accelerators.DraDevice):
        return
    profiles: set[str] = set()
    for one in slices:
        for device in one["spec"].get("devices") or () if one["spec"]["driver"] == accelerators.DRA_DRIVER else ():
            attributes = device.get("attributes") or {}
            profile = attributes.get("profile") or attributes.get(f"{accelerators.DRA_DRIVER}/profile") or {}
            profiles.add(profile.get("string", ""))
    if (accelerator.profile or "") not in profiles:
        wanted = accelerator.profile or "whole GPU"
        there = ", ".join(sorted(profile or "whole GPU" for profile in profiles)) or "nothing"
        way = "another --accelerator, or see that NVIDIA's DRA driver runs with MIG"
        yield Problem("ResourceSlices", f"no node publishes a {wanted} for {whose}; there is {there}: {way}")


def is_tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    """By the scheduler's rules: key and effect match or are left out, and the value does or `Exists`."""
    return any(
        toleration.get("key") in {None, "", taint["key"]}
        and toleration.get("effect") in {None, "", taint.get("effect")}
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", ""))
        for toleration in tolerations
    )


def _build_node_requests(placement: Placement) -> dict[str, Fraction]:
    wanted = {
        name: parse_quantity(text) for name, text in (("cpu", placement.cpu), ("memory", placement.memory)) if text
    }
    if resource := accelerators.parse_accelerator(placement.accelerator).node_resource:
        wanted[resource[0]] = Fraction(resource[1])
    return wanted


def _explain_no_node(
    nodes: Sequence[Object], labels: dict[str, str], tolerations: Sequence[Object], wanted: dict[str, Fraction]
) -> str | None:
    """None when a node fits."""
    labelled = [node for node in nodes if _has_labels(node, labels)]
    if not nodes:
        return "there are no nodes"
    if not labelled:
        return f"no node has {', '.join(f'{name}={value}' for name, value in labels.items())}"
    open_nodes = [node for node in labelled if not _is_closed(node, tolerations)]
    if not open_nodes:
        return "all its nodes are cordoned or tainted"
    if any(_has_capacity(node, wanted) for node in open_nodes):
        return None
    most = {name: max(_allocatable(node, name) for node in open_nodes) for name in wanted}
    return "a node has at most " + ", ".join(f"{format_quantity(amount)} {name}" for name, amount in most.items())


def _has_labels(node: Object, labels: dict[str, str]) -> bool:
    there = node["metadata"].get("labels") or {}
    return all(there.get(name) == value for name, value in labels.items())


def _is_closed(node: Object, tolerations: Sequence[Object]) -> bool:
    """A taint that comes and goes with the node's health is not counted: it says nothing about for ever."""
    spec = node.get("spec") or {}
    return bool(spec.get("unschedulable")) or any(
        taint.get("effect") in {"NoSchedule", "NoExecute"}
        and not taint["key"].startswith("node.kubernetes.io/")
        and not is_tolerated(taint, tolerations)
        for taint in spec.get("taints") or ()
    )


def _has_capacity(node: Object, wanted: dict[str, Fraction]) -> bool:
    return all(_allocatable(node, name) >= amount for name, amount in wanted.items())


def _allocatable(node: Object, name: str) -> Fraction:
    """What the node advertises; the Dynamic Accelerator Slicer has names of its own for what pods ask of it."""
    there = (node.get("status") or {}).get("allocatable") or {}
    own = parse_quantity(there.get(name, 0))
    return max(own, parse_quantity(there.get(name.replace("nvidia.com/", "mig.das.com/", 1), 0)))
