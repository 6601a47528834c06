"""Which flavors a workload would get, and whether it fits now, fits after preemption, or cannot fit.

After Kueue v0.19, pkg/scheduler/flavorassigner/flavorassigner.go and preemption_oracle.go beside it. Workloads have one
pod set here. Left out: node selectors, taints and topologies of pod sets, partial admission, workload slices, the
flavor to resume the search from (LastAssignment), `flavorFungibility.preference`: flavors are compared as with its
value BorrowingOverPreemption, which is also how Kueue compares them without it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from epp_batch.planner.cluster_model import ClusterQueue, ResourceGroup, ResourceList
from epp_batch.planner.planned_job import DEVICE_CLASS_PREFIX
from epp_batch.planner.preemption import PreemptionTarget, QuotaSnapshot, get_targets
from epp_batch.planner.quota_tree import NO_QUOTA, FlavorResource, FlavorResourceQuantities
from epp_batch.planner.workload import WorkloadInfo


class PreemptionMode(IntEnum):
    """How a flavor could be assigned, from worst to best. Kueue: preemptionMode, part of its granularMode."""

    NO_FIT = 0
    NO_PREEMPTION_CANDIDATES = 1
    """Preemption could make room, but no workload may be preempted."""
    PREEMPT = 2
    """A target is in the same ClusterQueue."""
    RECLAIM = 3
    """All targets are in other ClusterQueues."""
    FIT = 4


class Assignment(NamedTuple):
    """Flavors for all or some of a workload's resources. Kueue: Assignment."""

    representative_mode: PreemptionMode
    """The worst mode of its resources."""
    borrowing: int
    """Height of the smallest cohort tree whose quota has room; 0 without borrowing. The highest of its resources."""
    usage: FlavorResourceQuantities
    frs_need_preemption: set[FlavorResource]
    """Flavor resources of which too little is available."""
    preemption_targets: list[PreemptionTarget]
    """Only in the assignment of a whole workload."""
    message: str = ""
    """Why it can never fit."""
    never_fits: bool = False
    """Neither waiting nor preemption would help: Kueue's reasons ExceedsMaxQuota and a resource that is not covered."""


def assign_flavors(snapshot: QuotaSnapshot, workload: WorkloadInfo) -> Assignment:
    """The flavors that Kueue would assign now, and the workloads to preempt for them. Kueue: getInitialAssignments."""
    return FlavorAssigner(snapshot, workload).assign()


class FlavorAssigner:
    """Finds flavors for one workload against one snapshot. Kueue: FlavorAssigner."""

    def __init__(self, snapshot: QuotaSnapshot, workload: WorkloadInfo) -> None:
        self._snapshot = snapshot
        self._workload = workload
        self._cluster_queue = snapshot.cluster_queues[workload.cluster_queue]
        self._node = snapshot.resource_nodes[workload.cluster_queue]

    def assign(self) -> Assignment:
        """Flavors for every resource, group by group; NO_FIT as soon as a group has none. Kueue: assignFlavors."""
        usage: FlavorResourceQuantities = {}
        frs_need_preemption: set[FlavorResource] = set()
        mode, borrowing = PreemptionMode.FIT, 0
        uncovered = set(self._workload.total_requests)
        for group in self._cluster_queue.resource_groups:
            requests = {
                name: self._workload.total_requests[name] for name in group.covered_resources if name in uncovered
            }
            if not requests:
                continue
            uncovered -= requests.keys()
            found = self._find_flavor(group, requests)
            if found.representative_mode is PreemptionMode.NO_FIT:
                return found
            usage |= found.usage
            frs_need_preemption |= found.frs_need_preemption
            mode, borrowing = min(mode, found.representative_mode), max(borrowing, found.borrowing)
        if uncovered:
            return _build_no_fit(_uncovered_resource_message(min(uncovered), self._cluster_queue), never_fits=True)
        targets: list[PreemptionTarget] = []
        if mode is not PreemptionMode.FIT:
            targets = get_targets(self._snapshot, self._workload, usage, frs_need_preemption)
        return Assignment(mode, borrowing, usage, frs_need_preemption, targets)

    def _find_flavor(self, group: ResourceGroup, requests: ResourceList) -> Assignment:
        """The best flavor of one resource group for these requests. Kueue: findFlavorForPodSets.

        Flavors are tried in the order of the group until one need not be improved (`_should_try_next_flavor`).
        """
        best: Assignment | None = None
        message, never_fits = "", True
        for flavor in group.flavors:
            usage = {(flavor.flavor, resource): amount for resource, amount in requests.items()}
            found = self._check_flavor_quota(usage)
            message, never_fits = found.message or message, never_fits and found.never_fits
            if not self._should_try_next_flavor(found):
                return found
            if found.representative_mode is not PreemptionMode.NO_FIT and (best is None or _is_preferred(found, best)):
                best = found
        return best or _build_no_fit(message, never_fits=never_fits)

    def _should_try_next_flavor(self, found: Assignment) -> bool:
        """Kueue: shouldTryNextFlavor, by the ClusterQueue's flavorFungibility."""
        if found.representative_mode in (PreemptionMode.NO_FIT, PreemptionMode.NO_PREEMPTION_CANDIDATES):
            return True
        if (
            found.representative_mode is not PreemptionMode.FIT
            and self._cluster_queue.when_can_preempt == "TryNextFlavor"
        ):
            return True
        return found.borrowing > 0 and self._cluster_queue.when_can_borrow == "TryNextFlavor"

    def _check_flavor_quota(self, usage: FlavorResourceQuantities) -> Assignment:
        """One flavor for all resources of a group. Kueue: the inner loop of findFlavorForPodSets.

        Kueue takes the borrowing level of the worst resource for the choice between flavors; here it is the highest of
        all, which is the same as long as a group has one resource that is short.
        """
        mode, borrowing = PreemptionMode.FIT, 0
        frs_need_preemption: set[FlavorResource] = set()
        for fr, amount in usage.items():
            resource_mode, resource_borrowing = self._fits_resource_quota(fr, amount)
            if resource_mode is PreemptionMode.NO_FIT:
                max_capacity = self._node.potential_available(fr)
                if amount <= max_capacity:
                    return _build_no_fit("", never_fits=False)
                return _build_no_fit(
                    _exceeds_max_quota_message(fr, amount, max_capacity, self._cluster_queue), never_fits=True
                )
            if resource_mode is not PreemptionMode.FIT:
                frs_need_preemption.add(fr)
            mode, borrowing = min(mode, resource_mode), max(borrowing, resource_borrowing)
        return Assignment(mode, borrowing, dict(usage), frs_need_preemption, [])

    def _fits_resource_quota(self, fr: FlavorResource, amount: int) -> tuple[PreemptionMode, int]:
        """How one resource of a flavor could be assigned, and the height to borrow from. Kueue: fitsResourceQuota."""
        if amount > self._node.potential_available(fr):
            return PreemptionMode.NO_FIT, 0
        borrowing, may_reclaim_in_hierarchy = self._node.find_height_of_lowest_subtree_that_fits(fr, amount)
        if amount <= self._node.available(fr):
            return PreemptionMode.FIT, borrowing
        within_nominal = self._node.quotas.get(fr, NO_QUOTA).nominal >= amount
        # Kueue: canPreemptWhileBorrowing.
        can_preempt_while_borrowing = self._cluster_queue.preemption.borrow_within_cohort != "Never"
        if within_nominal or may_reclaim_in_hierarchy or can_preempt_while_borrowing:
            return self._simulate_preemption(fr, amount)
        return PreemptionMode.NO_FIT, borrowing

    def _simulate_preemption(self, fr: FlavorResource, amount: int) -> tuple[PreemptionMode, int]:
        """Whether preemption could make room in one flavor resource, and the height borrowed from afterwards.

        Kueue: PreemptionOracle.SimulatePreemption.
        """
        targets = get_targets(self._snapshot, self._workload, {fr: amount}, {fr})
        if not targets:
            borrowing, _ = self._node.find_height_of_lowest_subtree_that_fits(fr, amount)
            return PreemptionMode.NO_PREEMPTION_CANDIDATES, borrowing
        for target in targets:
            self._snapshot.remove_workload(target.workload)
        borrowing, _ = self._node.find_height_of_lowest_subtree_that_fits(fr, amount)
        for target in targets:
            self._snapshot.add_workload(target.workload)
        same_queue = any(target.workload.cluster_queue == self._cluster_queue.name for target in targets)
        return (PreemptionMode.PREEMPT if same_queue else PreemptionMode.RECLAIM), borrowing


def _is_preferred(a: Assignment, b: Assignment) -> bool:
    """Whether flavor `a` is better than `b`: by mode, then by less borrowing. Kueue: isPreferred."""
    return (a.representative_mode, -a.borrowing) > (b.representative_mode, -b.borrowing)


def _build_no_fit(message: str, *, never_fits: bool) -> Assignment:
    return Assignment(PreemptionMode.NO_FIT, 0, {}, set(), [], message, never_fits)


def _uncovered_resource_message(resource: str, cluster_queue: ClusterQueue) -> str:
    if resource.startswith(DEVICE_CLASS_PREFIX):
        name = resource.removeprefix(DEVICE_CLASS_PREFIX)
        return f"DeviceClass {name} is not in resources.deviceClassMappings of Kueue's Configuration"
    return f"resource {resource} is not covered by ClusterQueue {cluster_queue.name}"


def _exceeds_max_quota_message(fr: FlavorResource, amount: int, max_capacity: int, cluster_queue: ClusterQueue) -> str:
    flavor, resource = fr
    return (
        f"insufficient quota for {resource} in flavor {flavor} of ClusterQueue {cluster_queue.name}: "
        f"{amount} requested, maximum capacity {max(0, max_capacity)}"
    )
