"""Quota as a tree: ClusterQueues under cohorts under cohorts, with borrowing and lending limits.

The arithmetic is Kueue's (v0.19): a node keeps `subtree - lending limit` for itself, and only what is used beyond that
is seen by its parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from epp_batch.planner.world import Group, Kueue, Quota

Cell = tuple[str, str]
"""Flavor and resource."""

Usage = dict[Cell, int]

NONE = Quota(0)


def cells(groups: Iterable[Group]) -> dict[Cell, Quota]:
    """The quotas of resource groups by flavor and resource."""
    return {
        (offer.flavor, resource): quota
        for group in groups
        for offer in group.offers
        for resource, quota in offer.quotas.items()
    }


class QuotaNode:
    """One ClusterQueue or cohort: its own quota, what its subtree has, what is in use."""

    def __init__(self, name: str, quotas: dict[Cell, Quota]) -> None:
        self.name = name
        self.quotas = quotas
        self.parent: QuotaNode | None = None
        self.children: list[QuotaNode] = []
        self.queue = False
        self.subtree: Usage = {}
        self.usage: Usage = {}

    def ancestors(self) -> Iterator[QuotaNode]:
        """From the parent to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def root(self) -> QuotaNode:
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def height(self) -> int:
        """Levels below: what Kueue measures the distance of borrowed quota in."""
        cohorts = [child.height() + 1 for child in self.children if not child.queue]
        return max([min(len(self.children), 1), *cohorts])

    def sum_up(self) -> None:
        """Fills `subtree` from the leaves up."""
        self.subtree = {cell: quota.nominal for cell, quota in self.quotas.items()}
        for child in self.children:
            child.sum_up()
            for cell, amount in child.subtree.items():
                self.subtree[cell] = self.subtree.get(cell, 0) + amount - child.kept(cell)

    def used(self, cell: Cell) -> int:
        return self.usage.get(cell, 0)

    def kept(self, cell: Cell) -> int:
        """What is never lent to the parent."""
        lending = self.quotas.get(cell, NONE).lending
        return 0 if lending is None else max(0, self.subtree.get(cell, 0) - lending)

    def kept_free(self, cell: Cell) -> int:
        return max(0, self.kept(cell) - self.used(cell))

    def available(self, cell: Cell) -> int:
        """What a workload here could have now, borrowing included; below zero after an over-admission."""
        if self.parent is None:
            return self.subtree.get(cell, 0) - self.used(cell)
        above = self.parent.available(cell)
        limit = self.quotas.get(cell, NONE).borrowing
        if limit is not None:
            kept = self.kept(cell)
            above = min(self.subtree.get(cell, 0) - kept - max(0, self.used(cell) - kept) + limit, above)
        return self.kept_free(cell) + above

    def potential(self, cell: Cell) -> int:
        """The same in an empty cluster."""
        if self.parent is None:
            return self.subtree.get(cell, 0)
        most = self.kept(cell) + self.parent.potential(cell)
        limit = self.quotas.get(cell, NONE).borrowing
        return most if limit is None else min(self.subtree.get(cell, 0) + limit, most)

    def add(self, cell: Cell, amount: int) -> None:
        beyond = amount - self.kept_free(cell)
        self.usage[cell] = self.used(cell) + amount
        if self.parent is not None and beyond > 0:
            self.parent.add(cell, beyond)

    def remove(self, cell: Cell, amount: int) -> None:
        in_parent = self.used(cell) - self.kept(cell)
        self.usage[cell] = self.used(cell) - amount
        if self.parent is not None and in_parent > 0:
            self.parent.remove(cell, min(amount, in_parent))

    def exceeds(self, wanted: Iterable[Cell]) -> bool:
        """Whether any of these is used beyond the quota of the subtree: somebody below borrows."""
        return any(self.used(cell) > self.subtree.get(cell, 0) for cell in wanted)

    def borrows_with(self, cell: Cell, amount: int) -> bool:
        """Whether so much more would be beyond its own quota: nominal for a queue, the subtree's for a cohort."""
        own = self.quotas.get(cell, NONE).nominal if self.queue else self.subtree.get(cell, 0)
        return own < self.used(cell) + amount

    def fits_own(self, wanted: Usage) -> tuple[bool, Usage]:
        """Whether it fits into the quota of this subtree, and what would be left for the parent to give."""
        fits = all(self.subtree.get(cell, 0) >= self.used(cell) + amount for cell, amount in wanted.items())
        return fits, {cell: max(0, amount - self.kept_free(cell)) for cell, amount in wanted.items()}

    def distance(self, cell: Cell, amount: int) -> tuple[int, bool]:
        """Height of the lowest subtree whose quota has room for it; whether a cohort above it could have some back."""
        if self.parent is None or not self.borrows_with(cell, amount):
            return 0, self.parent is not None
        left = amount - self.kept_free(cell)
        for node in self.ancestors():
            if not node.borrows_with(cell, left):
                return node.height(), node.parent is not None
            left -= node.kept_free(cell)
        return self.root().height(), False


def tree(kueue: Kueue) -> dict[str, QuotaNode]:
    """The node of every ClusterQueue by name; cohorts that no object describes exist once a queue names them."""
    cohorts = {cohort.name: QuotaNode(cohort.name, cells(cohort.groups)) for cohort in kueue.cohorts}
    queues = {}
    for cohort in kueue.cohorts:
        if cohort.parent:
            _hang(cohorts[cohort.name], cohorts.setdefault(cohort.parent, QuotaNode(cohort.parent, {})))
    for queue in kueue.queues:
        node = queues[queue.name] = QuotaNode(queue.name, cells(queue.groups))
        node.queue = True
        if queue.cohort:
            _hang(node, cohorts.setdefault(queue.cohort, QuotaNode(queue.cohort, {})))
    for root in {id(node.root()): node.root() for node in queues.values()}.values():
        root.sum_up()
    return queues


def _hang(child: QuotaNode, parent: QuotaNode) -> None:
    child.parent = parent
    parent.children.append(child)
