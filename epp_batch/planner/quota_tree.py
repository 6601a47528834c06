"""The quota tree: ClusterQueues under cohorts under cohorts, with borrowing and lending limits.

The arithmetic is Kueue's (v0.19, pkg/cache/scheduler); each method names its function, which is in resource_node.go
unless the method says otherwise. A node keeps `subtree quota - lending limit` to itself, its local quota; only usage
beyond that counts in its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from epp_batch.errors import InputError
from epp_batch.planner.cluster_model import KueueObjects, ResourceGroup, ResourceQuota

FlavorResource = tuple[str, str]
"""Flavor and resource."""

FlavorResourceQuantities = dict[FlavorResource, int]

NO_QUOTA = ResourceQuota(0)


def index_quotas(groups: Iterable[ResourceGroup]) -> dict[FlavorResource, ResourceQuota]:
    """The quotas of resource groups by flavor and resource."""
    return {
        (flavor.flavor, resource): quota
        for group in groups
        for flavor in group.flavors
        for resource, quota in flavor.quotas.items()
    }


class ResourceNode:
    """Quota and usage of one ClusterQueue or cohort (Kueue: resourceNode).

    `usage` of a ClusterQueue is what its workloads hold; of a cohort, what its children use beyond their local quota.
    """

    def __init__(self, name: str, quotas: dict[FlavorResource, ResourceQuota]) -> None:
        self.name = name
        self.quotas = quotas
        self.parent: ResourceNode | None = None
        self.children: list[ResourceNode] = []
        self.is_cluster_queue = False
        self.subtree_quota: FlavorResourceQuantities = {}
        self.usage: FlavorResourceQuantities = {}

    def path_parent_to_root(self) -> Iterator[ResourceNode]:
        """The cohorts above this node, the nearest first. Kueue: ClusterQueueSnapshot.PathParentToRoot."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def root(self) -> ResourceNode:
        """The top of the tree; the node itself when it has no parent. Kueue: CohortSnapshot.Root."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def node_height(self) -> int:
        """Levels below this node. Kueue: getNodeHeight (classical/hierarchical_preemption.go)."""
        cohort_heights = [child.node_height() + 1 for child in self.children if not child.is_cluster_queue]
        return max([min(len(self.children), 1), *cohort_heights])

    def accumulate_subtree_quota(self) -> None:
        """Computes `subtree_quota` from the leaves up. Kueue: updateCohortResourceNode, accumulateFromChild."""
        self.subtree_quota = {fr: quota.nominal for fr, quota in self.quotas.items()}
        for child in self.children:
            child.accumulate_subtree_quota()
            for fr, amount in child.subtree_quota.items():
                self.subtree_quota[fr] = self.subtree_quota.get(fr, 0) + amount - child.local_quota(fr)

    def usage_of(self, fr: FlavorResource) -> int:
        """Amount in use of one resource in one flavor."""
        return self.usage.get(fr, 0)

    def local_quota(self, fr: FlavorResource) -> int:
        """The part of the subtree's quota that is never lent to the parent. Kueue: localQuota."""
        lending_limit = self.quotas.get(fr, NO_QUOTA).lending_limit
        return 0 if lending_limit is None else max(0, self.subtree_quota.get(fr, 0) - lending_limit)

    def local_available(self, fr: FlavorResource) -> int:
        """Unused local quota. Kueue: LocalAvailable."""
        return max(0, self.local_quota(fr) - self.usage_of(fr))

    def available(self, fr: FlavorResource) -> int:
        """What a workload here could get now, borrowing included; negative after over-admission. Kueue: available."""
        if self.parent is None:
            return self.subtree_quota.get(fr, 0) - self.usage_of(fr)
        parent_available = self.parent.available(fr)
        borrowing_limit = self.quotas.get(fr, NO_QUOTA).borrowing_limit
        if borrowing_limit is not None:
            local_quota = self.local_quota(fr)
            stored_in_parent = self.subtree_quota.get(fr, 0) - local_quota
            used_in_parent = max(0, self.usage_of(fr) - local_quota)
            parent_available = min(stored_in_parent - used_in_parent + borrowing_limit, parent_available)
        return self.local_available(fr) + parent_available

    def potential_available(self, fr: FlavorResource) -> int:
        """What a workload here could get if nothing was in use. Kueue: potentialAvailable."""
        if self.parent is None:
            return self.subtree_quota.get(fr, 0)
        available = self.local_quota(fr) + self.parent.potential_available(fr)
        borrowing_limit = self.quotas.get(fr, NO_QUOTA).borrowing_limit
        return available if borrowing_limit is None else min(self.subtree_quota.get(fr, 0) + borrowing_limit, available)

    def add_usage(self, fr: FlavorResource, amount: int) -> None:
        """Adds usage here and, beyond the local quota, in the cohorts above. Kueue: addUsage."""
        beyond_local_quota = amount - self.local_available(fr)
        self.usage[fr] = self.usage_of(fr) + amount
        if self.parent is not None and beyond_local_quota > 0:
            self.parent.add_usage(fr, beyond_local_quota)

    def remove_usage(self, fr: FlavorResource, amount: int) -> None:
        """Reverts `add_usage`. Kueue: removeUsage."""
        stored_in_parent = self.usage_of(fr) - self.local_quota(fr)
        self.usage[fr] = self.usage_of(fr) - amount
        if self.parent is not None and stored_in_parent > 0:
            self.parent.remove_usage(fr, min(amount, stored_in_parent))

    def is_within_nominal_in_resources(self, frs: Iterable[FlavorResource]) -> bool:
        """Whether none of these is used beyond the subtree's quota. Kueue: IsWithinNominalInResources."""
        return all(self.subtree_quota.get(fr, 0) >= self.usage_of(fr) for fr in frs)

    def borrowing_with(self, fr: FlavorResource, amount: int) -> bool:
        """Whether `amount` more would exceed the nominal quota of a ClusterQueue, or the subtree's of a cohort.

        Kueue: ClusterQueueSnapshot.BorrowingWith and CohortSnapshot.BorrowingWith.
        """
        quota = self.quotas.get(fr, NO_QUOTA).nominal if self.is_cluster_queue else self.subtree_quota.get(fr, 0)
        return quota < self.usage_of(fr) + amount

    def quantities_fit_in_quota(self, requests: FlavorResourceQuantities) -> tuple[bool, FlavorResourceQuantities]:
        """Whether the requests fit into the quota of this subtree, and what remains for the parent to provide.

        Kueue: QuantitiesFitInQuota.
        """
        fits = all(self.subtree_quota.get(fr, 0) >= self.usage_of(fr) + amount for fr, amount in requests.items())
        return fits, {fr: max(0, amount - self.local_available(fr)) for fr, amount in requests.items()}

    def find_height_of_lowest_subtree_that_fits(self, fr: FlavorResource, amount: int) -> tuple[int, bool]:
        """Height of the lowest subtree whose quota has room for `amount`, and whether it is not the whole tree.

        The height is 0 where the node need not borrow, and the tree's where no subtree has room. Kueue:
        FindHeightOfLowestSubtreeThatFits (classical/hierarchical_preemption.go).
        """
        if self.parent is None or not self.borrowing_with(fr, amount):
            return 0, self.parent is not None
        remaining = amount - self.local_available(fr)
        for node in self.path_parent_to_root():
            if not node.borrowing_with(fr, remaining):
                return node.node_height(), node.parent is not None
            remaining -= node.local_available(fr)
        return self.root().node_height(), False


def build_quota_tree(kueue: KueueObjects) -> dict[str, ResourceNode]:
    """The node of every ClusterQueue by name, linked to its cohorts.

    A cohort without an object of its own exists as soon as a ClusterQueue or another cohort names it. Raises InputError
    where cohorts are their own ancestors: Kueue admits nothing through such a tree (ErrCohortHasCycle).
    """
    cohorts = {cohort.name: ResourceNode(cohort.name, index_quotas(cohort.resource_groups)) for cohort in kueue.cohorts}
    cluster_queues = {}
    for cohort in kueue.cohorts:
        if cohort.parent_name:
            child = cohorts[cohort.name]
            parent = cohorts.setdefault(cohort.parent_name, ResourceNode(cohort.parent_name, {}))
            if parent.root() is child:
                raise InputError(
                    f"cohort {cohort.name} is its own ancestor: Kueue admits no workload through it",
                    remedy=f"change spec.parentName of {cohort.name} or of a cohort above it",
                )
            _attach_child(child, parent)
    for queue in kueue.cluster_queues:
        node = cluster_queues[queue.name] = ResourceNode(queue.name, index_quotas(queue.resource_groups))
        node.is_cluster_queue = True
        if queue.cohort_name:
            _attach_child(node, cohorts.setdefault(queue.cohort_name, ResourceNode(queue.cohort_name, {})))
    for root in {id(node.root()): node.root() for node in cluster_queues.values()}.values():
        root.accumulate_subtree_quota()
    return cluster_queues


def _attach_child(child: ResourceNode, parent: ResourceNode) -> None:
    child.parent = parent
    parent.children.append(child)
