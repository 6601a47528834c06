"""Which flavors a workload would get, and whether it fits, fits after preemption, or never will."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from epp_batch.planner import preemption
from epp_batch.planner.cluster_model import ClusterQueue, ResourceGroup
from epp_batch.planner.planned_job import DEVICE_CLASS_PREFIX
from epp_batch.planner.preemption import PreemptionTarget, QuotaSnapshot
from epp_batch.planner.quota_tree import NO_QUOTA, FlavorResource, FlavorResourceQuantities
from epp_batch.planner.workload import WorkloadInfo


class PreemptionMode(IntEnum):
    """Kueue's granular modes, from worst to best."""

    NO_FIT = 0
    NO_PREEMPTION_CANDIDATES = 1
    """Preemption would be allowed, but there is nobody to preempt."""
    PREEMPT = 2
    RECLAIM = 3
    """All victims are in other queues."""
    FIT = 4


class Assignment(NamedTuple):
    """One way to serve a workload."""

    representative_mode: PreemptionMode
    borrowing: int
    """How far up the tree the quota comes from; 0 is its own."""
    usage: FlavorResourceQuantities
    frs_need_preemption: set[FlavorResource]
    """Cells with too little free."""
    preemption_targets: list[PreemptionTarget]
    message: str = ""
    never_fits: bool = False
    """No preemption and no waiting would help."""


def assign_flavors(state: QuotaSnapshot, workload: WorkloadInfo) -> Assignment:
    """The flavors that Kueue would pick now."""
    spec = state.cluster_queues[workload.cluster_queue]
    usage: FlavorResourceQuantities = {}
    short: set[FlavorResource] = set()
    mode, distance, left = PreemptionMode.FIT, 0, set(workload.total_requests)
    for group in spec.resource_groups:
        wanted = {
            resource: workload.total_requests[resource] for resource in group.covered_resources if resource in left
        }
        if not wanted:
            continue
        left -= wanted.keys()
        found = _find_flavor_for_pod_sets(state, workload, spec, group, wanted)
        if found.representative_mode is PreemptionMode.NO_FIT:
            return found
        usage |= found.usage
        short |= found.frs_need_preemption
        mode, distance = min(mode, found.representative_mode), max(distance, found.borrowing)
    if left:
        return Assignment(PreemptionMode.NO_FIT, 0, {}, set(), [], _uncovered_resource_message(min(left), spec), True)
    victims = preemption.get_targets(state, workload, usage, short) if mode is not PreemptionMode.FIT else []
    return Assignment(mode, distance, usage, short, victims)


def _uncovered_resource_message(resource: str, spec: ClusterQueue) -> str:
    if resource.startswith(DEVICE_CLASS_PREFIX):
        name = resource.removeprefix(DEVICE_CLASS_PREFIX)
        return f"DeviceClass {name} is in no deviceClassMappings of Kueue's Configuration"
    return f"{resource} is not covered by ClusterQueue {spec.name}"


def _find_flavor_for_pod_sets(
    state: QuotaSnapshot, workload: WorkloadInfo, spec: ClusterQueue, group: ResourceGroup, wanted: dict[str, int]
) -> Assignment:
    """The best flavor of one group, in the order and with the stops of spec.flavorFungibility."""
    best: Assignment | None = None
    why, never = "", True
    for offer in group.flavors:
        usage = {(offer.flavor, resource): amount for resource, amount in wanted.items()}
        found = _check_flavor_quota(state, workload, spec, usage)
        why, never = found.message or why, never and found.never_fits
        if not _should_try_next_flavor(found, spec):
            return found
        if found.representative_mode is not PreemptionMode.NO_FIT and (
            best is None or _preference(found) > _preference(best)
        ):
            best = found
    return best or Assignment(PreemptionMode.NO_FIT, 0, {}, set(), [], why, never)


def _preference(choice: Assignment) -> tuple[int, int]:
    return choice.representative_mode, -choice.borrowing


def _should_try_next_flavor(choice: Assignment, spec: ClusterQueue) -> bool:
    if choice.representative_mode in (PreemptionMode.NO_FIT, PreemptionMode.NO_PREEMPTION_CANDIDATES):
        return True
    if choice.representative_mode is not PreemptionMode.FIT and spec.when_can_preempt == "TryNextFlavor":
        return True
    return choice.borrowing > 0 and spec.when_can_borrow == "TryNextFlavor"


def _check_flavor_quota(
    state: QuotaSnapshot, workload: WorkloadInfo, spec: ClusterQueue, usage: FlavorResourceQuantities
) -> Assignment:
    mode, distance, short = PreemptionMode.FIT, 0, set()
    for cell, amount in usage.items():
        found, far = _fits_resource_quota(state, workload, spec, cell, amount)
        if found is PreemptionMode.NO_FIT:
            most = state.resource_nodes[spec.name].potential_available(cell)
            why = f"{cell[1]}: {amount} asked for, but flavor {cell[0]} of ClusterQueue {spec.name} has {max(0, most)}"
            return Assignment(PreemptionMode.NO_FIT, 0, {}, set(), [], why if amount > most else "", amount > most)
        if found is not PreemptionMode.FIT:
            short.add(cell)
        mode, distance = min(mode, found), max(distance, far)
    return Assignment(mode, distance, dict(usage), short, [])


def _fits_resource_quota(
    state: QuotaSnapshot, workload: WorkloadInfo, spec: ClusterQueue, cell: FlavorResource, amount: int
) -> tuple[PreemptionMode, int]:
    node = state.resource_nodes[spec.name]
    if amount > node.potential_available(cell):
        return PreemptionMode.NO_FIT, 0
    distance, reclaimable = node.find_height_of_lowest_subtree_that_fits(cell, amount)
    if amount <= node.available(cell):
        return PreemptionMode.FIT, distance
    enough = node.quotas.get(cell, NO_QUOTA).nominal >= amount
    if not (enough or reclaimable or spec.preemption.borrow_within_cohort != "Never"):
        return PreemptionMode.NO_FIT, distance
    victims = preemption.get_targets(state, workload, {cell: amount}, {cell})
    if not victims:
        return PreemptionMode.NO_PREEMPTION_CANDIDATES, distance
    for target in victims:
        preemption.remove_workload(state, target.workload)
    distance, _ = node.find_height_of_lowest_subtree_that_fits(cell, amount)
    for target in victims:
        preemption.add_workload(state, target.workload)
    own = any(target.workload.cluster_queue == spec.name for target in victims)
    return (PreemptionMode.PREEMPT if own else PreemptionMode.RECLAIM), distance
