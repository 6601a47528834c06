"""Quota as a tree: ClusterQueues under cohorts under cohorts, with borrowing and lending limits.

The arithmetic is Kueue's (v0.19): a node keeps `subtree - lending limit` for itself, and only what is used beyond that
is seen by its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from epp_batch.planner.cluster_model import KueueObjects, ResourceGroup, ResourceQuota

FlavorResource = tuple[str, str]
"""Flavor and resource."""

FlavorResourceQuantities = dict[FlavorResource, int]

NO_QUOTA = ResourceQuota(0)


def index_quotas(groups: Iterable[ResourceGroup]) -> dict[FlavorResource, ResourceQuota]:
    """The quotas of resource groups by flavor and resource."""
    return {
        (offer.flavor, resource): quota
        for group in groups
        for offer in group.flavors
        for resource, quota in offer.quotas.items()
    }


class ResourceNode:
    """One ClusterQueue or cohort: its own quota, what its subtree has, what is in use."""

    def __init__(self, name: str, quotas: dict[FlavorResource, ResourceQuota]) -> None:
        self.name = name
        self.quotas = quotas
        self.parent: ResourceNode | None = None
        self.children: list[ResourceNode] = []
        self.is_cluster_queue = False
        self.subtree_quota: FlavorResourceQuantities = {}
        self.usage: FlavorResourceQuantities = {}

    def path_parent_to_root(self) -> Iterator[ResourceNode]:
        """From the parent to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def root(self) -> ResourceNode:
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def node_height(self) -> int:
        """Levels below: what Kueue measures the distance of borrowed quota in."""
        cohorts = [child.node_height() + 1 for child in self.children if not child.is_cluster_queue]
        return max([min(len(self.children), 1), *cohorts])

    def accumulate_subtree_quota(self) -> None:
        """Fills `subtree` from the leaves up."""
        self.subtree_quota = {cell: quota.nominal for cell, quota in self.quotas.items()}
        for child in self.children:
            child.accumulate_subtree_quota()
            for cell, amount in child.subtree_quota.items():
                self.subtree_quota[cell] = self.subtree_quota.get(cell, 0) + amount - child.local_quota(cell)

    def usage_of(self, cell: FlavorResource) -> int:
        return self.usage.get(cell, 0)

    def local_quota(self, cell: FlavorResource) -> int:
        """What is never lent to the parent."""
        lending = self.quotas.get(cell, NO_QUOTA).lending_limit
        return 0 if lending is None else max(0, self.subtree_quota.get(cell, 0) - lending)

    def local_available(self, cell: FlavorResource) -> int:
        return max(0, self.local_quota(cell) - self.usage_of(cell))

    def available(self, cell: FlavorResource) -> int:
        """What a workload here could have now, borrowing included; below zero after an over-admission."""
        if self.parent is None:
            return self.subtree_quota.get(cell, 0) - self.usage_of(cell)
        above = self.parent.available(cell)
        limit = self.quotas.get(cell, NO_QUOTA).borrowing_limit
        if limit is not None:
            kept = self.local_quota(cell)
            above = min(self.subtree_quota.get(cell, 0) - kept - max(0, self.usage_of(cell) - kept) + limit, above)
        return self.local_available(cell) + above

    def potential_available(self, cell: FlavorResource) -> int:
        """The same in an empty cluster."""
        if self.parent is None:
            return self.subtree_quota.get(cell, 0)
        most = self.local_quota(cell) + self.parent.potential_available(cell)
        limit = self.quotas.get(cell, NO_QUOTA).borrowing_limit
        return most if limit is None else min(self.subtree_quota.get(cell, 0) + limit, most)

    def add_usage(self, cell: FlavorResource, amount: int) -> None:
        beyond = amount - self.local_available(cell)
        self.usage[cell] = self.usage_of(cell) + amount
        if self.parent is not None and beyond > 0:
            self.parent.add_usage(cell, beyond)

    def remove_usage(self, cell: FlavorResource, amount: int) -> None:
        in_parent = self.usage_of(cell) - self.local_quota(cell)
        self.usage[cell] = self.usage_of(cell) - amount
        if self.parent is not None and in_parent > 0:
            self.parent.remove_usage(cell, min(amount, in_parent))

    def exceeds_nominal_in_resources(self, wanted: Iterable[FlavorResource]) -> bool:
        """Whether any of these is used beyond the quota of the subtree: somebody below borrows."""
        return any(self.usage_of(cell) > self.subtree_quota.get(cell, 0) for cell in wanted)

    def borrowing_with(self, cell: FlavorResource, amount: int) -> bool:
        """Whether so much more would be beyond its own quota: nominal for a queue, the subtree's for a cohort."""
        own = self.quotas.get(cell, NO_QUOTA).nominal if self.is_cluster_queue else self.subtree_quota.get(cell, 0)
        return own < self.usage_of(cell) + amount

    def quantities_fit_in_quota(self, wanted: FlavorResourceQuantities) -> tuple[bool, FlavorResourceQuantities]:
        """Whether it fits into the quota of this subtree, and what would be left for the parent to give."""
        fits = all(self.subtree_quota.get(cell, 0) >= self.usage_of(cell) + amount for cell, amount in wanted.items())
        return fits, {cell: max(0, amount - self.local_available(cell)) for cell, amount in wanted.items()}

    def find_height_of_lowest_subtree_that_fits(self, cell: FlavorResource, amount: int) -> tuple[int, bool]:
        """Height of the lowest subtree whose quota has room for it; whether a cohort above it could have some back."""
        if self.parent is None or not self.borrowing_with(cell, amount):
            return 0, self.parent is not None
        left = amount - self.local_available(cell)
        for node in self.path_parent_to_root():
            if not node.borrowing_with(cell, left):
                return node.node_height(), node.parent is not None
            left -= node.local_available(cell)
        return self.root().node_height(), False


def build_quota_tree(kueue: KueueObjects) -> dict[str, ResourceNode]:
    """The node of every ClusterQueue by name; cohorts that no object describes exist once a queue names them."""
    cohorts = {cohort.name: ResourceNode(cohort.name, index_quotas(cohort.resource_groups)) for cohort in kueue.cohorts}
    queues = {}
    for cohort in kueue.cohorts:
        if cohort.parent_name:
            _attach_child(
                cohorts[cohort.name], cohorts.setdefault(cohort.parent_name, ResourceNode(cohort.parent_name, {}))
            )
    for queue in kueue.cluster_queues:
        node = queues[queue.name] = ResourceNode(queue.name, index_quotas(queue.resource_groups))
        node.is_cluster_queue = True
        if queue.cohort_name:
            _attach_child(node, cohorts.setdefault(queue.cohort_name, ResourceNode(queue.cohort_name, {})))
    for root in {id(node.root()): node.root() for node in queues.values()}.values():
        root.accumulate_subtree_quota()
    return queues


def _attach_child(child: ResourceNode, parent: ResourceNode) -> None:
    child.parent = parent
    parent.children.append(child)
