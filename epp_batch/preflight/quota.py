"""What Kueue would charge a pod, and the most that a ClusterQueue could ever have of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from epp_batch.manifests import accelerators
from epp_batch.manifests.quantities import parse_quantity
from epp_batch.spec import Placement

_KNOWN_PREFIXES = ("nvidia.com/", "epp-batch/", "hugepages-")
Object = dict[str, Any]
ResourceUsage = dict[str, Fraction]


class CohortQuotas:
    """ClusterQueues and cohorts as a tree, by Kueue's arithmetic: borrowed is what others lend, up to both limits."""

    def __init__(self, cluster_queues: Sequence[Object], cohorts: Sequence[Object] = ()) -> None:
        self.queues = {queue["metadata"]["name"]: queue for queue in cluster_queues}
        self._cohorts = {cohort["metadata"]["name"]: cohort for cohort in cohorts}

    def potential_available(self, queue: str, flavor: str, resource: str) -> Fraction:
        """The most that `queue` could use of a resource in an empty cluster."""
        return self._potential_available(self.queues[queue], flavor, resource, frozenset())

    def _potential_available(self, node: Object, flavor: str, resource: str, seen: frozenset[str]) -> Fraction:
        own = self._subtree_quota(node, flavor, resource, frozenset())
        parent = self._parent_name(node)
        if parent is None or parent in seen:
            return own
        cohort = self._cohorts.get(parent, {"metadata": {"name": parent}, "spec": {}})
        above = self._potential_available(cohort, flavor, resource, seen | {parent})
        most = self._local_quota(node, own, flavor, resource) + above
        borrowing = _read_quota_field(node, flavor, resource, "borrowingLimit")
        return most if borrowing is None else min(own + borrowing, most)

    def _subtree_quota(self, node: Object, flavor: str, resource: str, seen: frozenset[str]) -> Fraction:
        """Nominal quota of a node, and what its children lend."""
        total = _read_quota_field(node, flavor, resource, "nominalQuota") or Fraction(0)
        name: str = node["metadata"]["name"]
        if self.queues.get(name) is node:
            return total
        for child in (*self.queues.values(), *self._cohorts.values()):
            if self._parent_name(child) == name and child["metadata"]["name"] not in seen:
                below = self._subtree_quota(child, flavor, resource, seen | {name})
                total += below - self._local_quota(child, below, flavor, resource)
        return total

    @staticmethod
    def _local_quota(node: Object, subtree: Fraction, flavor: str, resource: str) -> Fraction:
        lending = _read_quota_field(node, flavor, resource, "lendingLimit")
        return Fraction(0) if lending is None else max(Fraction(0), subtree - lending)

    @staticmethod
    def _parent_name(node: Object) -> str | None:
        spec = node.get("spec", {})
        parent: str | None = spec.get("cohortName") or spec.get("cohort") or spec.get("parentName")
        return parent


def _read_quota_field(node: Object, flavor: str, resource: str, field: str) -> Fraction | None:
    for group in resource_groups(node):
        for offer in group.get("flavors", ()):
            for quota in offer.get("resources", ()) if offer["name"] == flavor else ():
                if quota["name"] == resource and quota.get(field) is not None:
                    return parse_quantity(quota[field])
    return None


def resource_groups(node: Object) -> list[Object]:
    """Resource groups of a ClusterQueue or cohort."""
    found: list[Object] = node.get("spec", {}).get("resourceGroups") or []
    return found


def covered_resources(queue: Object) -> set[str]:
    return {resource for group in resource_groups(queue) for resource in group.get("coveredResources", ())}


def used_quota(queue: Object, flavor: str, resource: str) -> Fraction:
    """In use now, by the queue's status."""
    status = queue.get("status") or {}
    for usage in status.get("flavorsReservation") or status.get("flavorsUsage") or ():
        for one in usage.get("resources", ()) if usage["name"] == flavor else ():
            if one["name"] == resource:
                return parse_quantity(one.get("total", 0))
    return Fraction(0)


def compute_pod_usage(placement: Placement, queue: Object, configuration: Object | None = None) -> ResourceUsage:
    """What Kueue charges one pod, by resource.

    `configuration` is the Kueue manager's own, where it can be read. Without it, accelerators count as what the queue
    covers of their likely names: their own, or our slots and memory; as nothing where the queue covers names that only
    the configuration explains.
    """
    accelerator = accelerators.parse_accelerator(placement.accelerator)
    covers = covered_resources(queue)
    settings = (configuration or {}).get("resources") or {}
    if configuration is None:
        options = accelerator.possible_usage()
        unknown = {} if any(map(_is_foreign, covers)) or not options else options[0]
        likely = next((option for option in options if set(option) <= covers), unknown)
        wanted = {name: Fraction(count) for name, count in likely.items()}
    else:
        wanted = _compute_device_usage(accelerator, settings)
        wanted |= {name: parse_quantity(text) for name, text in accelerator.container_resources().items()}
    for name, text in (("cpu", placement.cpu), ("memory", placement.memory)):
        if text:
            wanted[name] = parse_quantity(text)
    wanted = _apply_transformations(wanted, settings)
    prefixes = tuple(settings.get("excludeResourcePrefixes") or ())
    wanted = {name: amount for name, amount in wanted.items() if not prefixes or not name.startswith(prefixes)}
    if settings.get("quotaCheckStrategy") == "IgnoreUndeclared":
        wanted = {name: amount for name, amount in wanted.items() if name in covers}
    return wanted | ({"pods": Fraction(1)} if "pods" in covers else {})


def _is_foreign(resource: str) -> bool:
    """Whether it may stand for something else: neither Kubernetes' own nor NVIDIA's, nor ours."""
    return not resource.startswith(_KNOWN_PREFIXES) if "/" in resource else "." in resource


def _compute_device_usage(accelerator: accelerators.Accelerator, settings: Mapping[str, Any]) -> ResourceUsage:
    """What a device class is mapped to: a count of devices, or what a counter says, by the profile's own words."""
    wanted: ResourceUsage = {}
    memory = accelerator.memory_bytes if isinstance(accelerator, accelerators.DraDevice) else 1
    for mapping in settings.get("deviceClassMappings") or ():
        if accelerator.device_class in mapping.get("deviceClassNames", ()):
            counted = any("counter" in source for source in mapping.get("sources") or ())
            wanted[mapping["name"]] = Fraction(memory if counted else 1)
    if accelerator.device_class and not wanted:
        wanted[f"device class {accelerator.device_class}, which Kueue maps to no resource,"] = Fraction(1)
    return wanted


def _apply_transformations(wanted: ResourceUsage, settings: Mapping[str, Any]) -> ResourceUsage:
    made: ResourceUsage = {}
    rules = {rule["input"]: rule for rule in settings.get("transformations") or ()}
    for name, amount in wanted.items():
        for output, share in _transform_resource(name, amount, rules, wanted):
            made[output] = made.get(output, Fraction(0)) + share
    return made


def _transform_resource(
    name: str, amount: Fraction, rules: Mapping[str, Any], wanted: ResourceUsage
) -> Iterator[tuple[str, Fraction]]:
    rule = rules.get(name)
    if rule is None:
        yield name, amount
        return
    if rule.get("strategy", "Retain") == "Retain":
        yield name, amount
    factor = wanted.get(rule["multiplyBy"], Fraction(1)) if rule.get("multiplyBy") else Fraction(1)
    for output, share in (rule.get("outputs") or {}).items():
        yield output, amount * parse_quantity(share) * factor
