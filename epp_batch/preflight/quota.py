"""Kueue's quota arithmetic: what a pod is charged, and the most that a ClusterQueue could ever use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from epp_batch.manifests import KubeObject, accelerators
from epp_batch.manifests.quantities import parse_quantity
from epp_batch.spec import Placement

_KNOWN_PREFIXES = ("nvidia.com/", "epp-batch/", "hugepages-")
ResourceUsage = dict[str, Fraction]
"""Amounts in base units by resource."""


class CohortQuotas:
    """The quota tree of ClusterQueues and cohorts, assuming no usage.

    Follows Kueue v0.19, pkg/cache/scheduler/resource_node.go. Cycles of cohorts, which Kueue deactivates, are cut.
    """

    def __init__(self, cluster_queues: Sequence[KubeObject], cohorts: Sequence[KubeObject] = ()) -> None:
        self.queues = {queue["metadata"]["name"]: queue for queue in cluster_queues}
        self._cohorts = {cohort["metadata"]["name"]: cohort for cohort in cohorts}

    def potential_available(self, queue: str, flavor: str, resource: str) -> Fraction:
        """The most that ClusterQueue `queue` could use of a resource, including what it can borrow."""
        return self._potential_available(self.queues[queue], flavor, resource, frozenset())

    def _potential_available(self, node: KubeObject, flavor: str, resource: str, visited: frozenset[str]) -> Fraction:
        """Kueue's `potentialAvailable`: local quota plus the parent's potential, limited by the borrowingLimit."""
        own = self._subtree_quota(node, flavor, resource, frozenset())
        parent = self._parent_name(node)
        if parent is None or parent in visited:
            return own
        cohort = self._cohorts.get(parent, {"metadata": {"name": parent}, "spec": {}})
        from_parent = self._potential_available(cohort, flavor, resource, visited | {parent})
        potential = self._local_quota(node, own, flavor, resource) + from_parent
        borrowing_limit = _read_quota_field(node, flavor, resource, "borrowingLimit")
        return potential if borrowing_limit is None else min(own + borrowing_limit, potential)

    def _subtree_quota(self, node: KubeObject, flavor: str, resource: str, visited: frozenset[str]) -> Fraction:
        """Kueue's `SubtreeQuota`: nominal quota of a node plus what its children lend (`accumulateFromChild`)."""
        total = _read_quota_field(node, flavor, resource, "nominalQuota") or Fraction(0)
        name: str = node["metadata"]["name"]
        if self.queues.get(name) is node:
            return total
        for child in (*self.queues.values(), *self._cohorts.values()):
            if self._parent_name(child) == name and child["metadata"]["name"] not in visited:
                child_quota = self._subtree_quota(child, flavor, resource, visited | {name})
                total += child_quota - self._local_quota(child, child_quota, flavor, resource)
        return total

    @staticmethod
    def _local_quota(node: KubeObject, subtree: Fraction, flavor: str, resource: str) -> Fraction:
        """Kueue's `localQuota`: the part of the subtree quota above the lendingLimit; 0 without a limit (all is
        lent)."""
        lending_limit = _read_quota_field(node, flavor, resource, "lendingLimit")
        return Fraction(0) if lending_limit is None else max(Fraction(0), subtree - lending_limit)

    @staticmethod
    def _parent_name(node: KubeObject) -> str | None:
        """`cohortName` of a ClusterQueue (`cohort` before v1beta2), `parentName` of a cohort."""
        spec = node.get("spec", {})
        parent: str | None = spec.get("cohortName") or spec.get("cohort") or spec.get("parentName")
        return parent


def _read_quota_field(node: KubeObject, flavor: str, resource: str, field: str) -> Fraction | None:
    for group in resource_groups(node):
        for offer in group.get("flavors", ()):
            for quota in offer.get("resources", ()) if offer["name"] == flavor else ():
                if quota["name"] == resource and quota.get(field) is not None:
                    return parse_quantity(quota[field])
    return None


def resource_groups(node: KubeObject) -> list[KubeObject]:
    """The resource groups of a ClusterQueue or cohort."""
    groups: list[KubeObject] = node.get("spec", {}).get("resourceGroups") or []
    return groups


def covered_resources(queue: KubeObject) -> set[str]:
    """The resources that a ClusterQueue has quota for."""
    return {resource for group in resource_groups(queue) for resource in group.get("coveredResources", ())}


def used_quota(queue: KubeObject, flavor: str, resource: str) -> Fraction:
    """Quota in use at present, from the ClusterQueue's status."""
    status = queue.get("status") or {}
    for usage in status.get("flavorsReservation") or status.get("flavorsUsage") or ():
        for item in usage.get("resources", ()) if usage["name"] == flavor else ():
            if item["name"] == resource:
                return parse_quantity(item.get("total", 0))
    return Fraction(0)


def compute_pod_usage(
    placement: Placement, queue: KubeObject, configuration: KubeObject | None = None
) -> ResourceUsage:
    """The quota that Kueue charges for one pod, by resource, in base units.

    `configuration` is the Kueue manager's Configuration, None if it cannot be read. Without it, an accelerator counts
    as the first of its possible resources that the queue covers, and as nothing if the queue covers resources that may
    be outputs of unknown transformations.
    """
    accelerator = accelerators.parse_accelerator(placement.accelerator)
    covered = covered_resources(queue)
    settings = (configuration or {}).get("resources") or {}
    if configuration is None:
        options = accelerator.possible_usage()
        unknown = {} if any(map(_may_be_transformation_output, covered)) or not options else options[0]
        likely = next((option for option in options if set(option) <= covered), unknown)
        requested = {name: Fraction(count) for name, count in likely.items()}
    else:
        requested = {name: parse_quantity(text) for name, text in accelerator.container_resources().items()}
    for name, text in (("cpu", placement.cpu), ("memory", placement.memory)):
        if text:
            requested[name] = parse_quantity(text)
    # Order as in Kueue v0.19 (workload.totalRequestsFromPodSets): dropExcludedResources, applyResourceTransformations,
    # then the resources of DRA claims, to which neither applies.
    if prefixes := tuple(settings.get("excludeResourcePrefixes") or ()):
        requested = {name: amount for name, amount in requested.items() if not name.startswith(prefixes)}
    usage = _apply_transformations(requested, settings)
    if configuration is not None:
        for name, amount in _compute_device_usage(accelerator, settings).items():
            usage[name] = usage.get(name, Fraction(0)) + amount
    if settings.get("quotaCheckStrategy") == "IgnoreUndeclared":
        usage = {name: amount for name, amount in usage.items() if name in covered}
    return usage | ({"pods": Fraction(1)} if "pods" in covered else {})


def _may_be_transformation_output(resource: str) -> bool:
    """Whether a covered resource is neither Kubernetes', NVIDIA's nor ours.

    Names without a slash are Kubernetes' own (`cpu`, `pods`), unless they contain a dot.
    """
    return not resource.startswith(_KNOWN_PREFIXES) if "/" in resource else "." in resource


def _compute_device_usage(accelerator: accelerators.Accelerator, settings: Mapping[str, Any]) -> ResourceUsage:
    """Usage of a DRA claim by Kueue's `deviceClassMappings`: one device, or the bytes of a counter source."""
    usage: ResourceUsage = {}
    memory = accelerator.memory_bytes if isinstance(accelerator, accelerators.DraDevice) else 1
    for mapping in settings.get("deviceClassMappings") or ():
        if accelerator.device_class in mapping.get("deviceClassNames", ()):
            counted = any("counter" in source for source in mapping.get("sources") or ())
            usage[mapping["name"]] = Fraction(memory if counted else 1)
    if accelerator.device_class and not usage:
        # Kueue rejects such a claim (GetResourceRequestsForResourceClaimTemplates). No queue covers this name, so that
        # the check of coverage reports it.
        usage[f"DeviceClass {accelerator.device_class} (in none of Kueue's deviceClassMappings)"] = Fraction(1)
    return usage


def _apply_transformations(requested: ResourceUsage, settings: Mapping[str, Any]) -> ResourceUsage:
    usage: ResourceUsage = {}
    rules = {rule["input"]: rule for rule in settings.get("transformations") or ()}
    for name, amount in requested.items():
        for output, share in _transform_resource(name, amount, rules, requested):
            usage[output] = usage.get(output, Fraction(0)) + share
    return usage


def _transform_resource(
    name: str, amount: Fraction, rules: Mapping[str, Any], requested: ResourceUsage
) -> Iterator[tuple[str, Fraction]]:
    rule = rules.get(name)
    if rule is None:
        yield name, amount
        return
    if rule.get("strategy", "Retain") == "Retain":
        yield name, amount
    factor = requested.get(rule["multiplyBy"], Fraction(1)) if rule.get("multiplyBy") else Fraction(1)
    for output, share in (rule.get("outputs") or {}).items():
        yield output, amount * parse_quantity(share) * factor
