"""Whom Kueue preempts: its classical algorithm (v0.19), which first takes, then gives back what was not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from epp_batch.planner.quota_tree import NONE, Cell, QuotaNode, Usage
from epp_batch.planner.workload import Workload
from epp_batch.planner.world import ClusterQueue, Policy

IN_QUEUE, RECLAIM, WHILE_BORROWING = "InClusterQueue", "InCohortReclamation", "InCohortReclaimWhileBorrowing"


class Target(NamedTuple):
    """A victim and Kueue's reason."""

    workload: Workload
    reason: str


class Candidate(NamedTuple):
    workload: Workload
    reason: str
    ancestor: QuotaNode | None
    """The lowest cohort that both belong to; None in the preemptor's own queue."""
    only_unborrowed: bool
    """May be taken only while the preemptor does not borrow."""


class State(NamedTuple):
    """What a decision sees."""

    specs: dict[str, ClusterQueue]
    nodes: dict[str, QuotaNode]
    holding: dict[str, list[Workload]]
    """By ClusterQueue, who has quota."""
    now: float


def take(state: State, workload: Workload) -> None:
    """Takes its usage away, as if it were gone."""
    for cell, amount in workload.usage.items():
        state.nodes[workload.queue].remove(cell, amount)


def give(state: State, workload: Workload) -> None:
    for cell, amount in workload.usage.items():
        state.nodes[workload.queue].add(cell, amount)


def targets(state: State, preemptor: Workload, wanted: Usage, short: set[Cell]) -> list[Target]:
    """Who must go so that `wanted` fits, where `short` are the cells with too little; none when nothing helps."""
    rules = state.specs[preemptor.queue].preemption
    if rules.within == "Never" and (rules.reclaim == "Never" or state.nodes[preemptor.queue].parent is None):
        return []
    search = _Search(state, preemptor, wanted, short)
    for borrowing in search.attempts():
        found = search.attempt(borrowing)
        if found:
            return found
    return []


class _Search:
    def __init__(self, state: State, preemptor: Workload, wanted: Usage, short: set[Cell]) -> None:
        self.state, self.preemptor, self.wanted, self.short = state, preemptor, wanted, short
        self.spec, self.node = state.specs[preemptor.queue], state.nodes[preemptor.queue]
        own = list(self._of_queue(self.spec.name, None, advantage=False))
        self.above: list[Candidate] = []
        self.equal: list[Candidate] = []
        self._collect()
        lists = [sorted(some, key=self._order) for some in (self.above, self.equal, own)]
        gone = [c for some in lists for c in some if c.workload.evicting]
        self.candidates = gone + [c for some in lists for c in some if not c.workload.evicting]

    def attempts(self) -> tuple[bool, ...]:
        """With and without borrowing, in Kueue's order."""
        forbidden = self.spec.preemption.borrow == "Never"
        under = all(self.node.quotas.get(cell, NONE).nominal > self.node.used(cell) for cell in self.short)
        if not (self.above or self.equal) or (forbidden and not under):
            return (True,)
        return (False, True) if forbidden and not self.above else (True, False)

    def attempt(self, borrowing: bool) -> list[Target]:
        taken: list[Target] = []
        for candidate in self.candidates:
            if not self._valid(candidate, borrowing):
                continue
            take(self.state, candidate.workload)
            taken.append(Target(candidate.workload, candidate.reason))
            if self._fits(borrowing):
                kept = self._give_back(taken, borrowing)
                for target in kept:
                    give(self.state, target.workload)
                return kept
        for target in taken:
            give(self.state, target.workload)
        return []

    def _give_back(self, taken: list[Target], borrowing: bool) -> list[Target]:
        """Newest first, whoever need not go after all."""
        for i in range(len(taken) - 2, -1, -1):
            give(self.state, taken[i].workload)
            if self._fits(borrowing):
                taken[i] = taken[-1]
                taken.pop()
            else:
                take(self.state, taken[i].workload)
        return taken

    def _fits(self, borrowing: bool) -> bool:
        return all(
            (borrowing or not self.node.borrows_with(cell, amount)) and amount <= self.node.available(cell)
            for cell, amount in self.wanted.items()
        )

    def _collect(self) -> None:
        """Candidates of other queues: those over whom its place in the tree gives the preemptor a right, and others."""
        if self.node.parent is None or self.spec.preemption.reclaim == "Never":
            return
        advantage, left = self.node.fits_own(self.wanted)
        seen: QuotaNode | None = None
        for root in self.node.ancestors():
            into = self.above if advantage else self.equal
            self._subtree(root, root, seen, advantage, into)
            fits, left = root.fits_own(left)
            advantage = advantage or fits
            seen = root

    def _subtree(
        self, node: QuotaNode, root: QuotaNode, skip: QuotaNode | None, advantage: bool, into: list[Candidate]
    ) -> None:
        for child in node.children:
            if child is skip or child is self.node or not child.exceeds(self.short):
                continue
            if child.queue:
                into.extend(self._of_queue(child.name, root, advantage=advantage))
            else:
                self._subtree(child, root, skip, advantage, into)

    def _of_queue(self, queue: str, ancestor: QuotaNode | None, *, advantage: bool) -> Iterator[Candidate]:
        rules = self.spec.preemption
        policy = rules.within if ancestor is None else rules.reclaim
        for workload in self.state.holding[queue]:
            if not self.short & workload.usage.keys() or not _allows(policy, self.preemptor, workload):
                continue
            if ancestor is None:
                yield Candidate(workload, IN_QUEUE, None, False)
            elif advantage:
                yield Candidate(workload, RECLAIM, ancestor, False)
            else:
                strictly = rules.borrow == "Never" or self._above_threshold(workload)
                yield Candidate(workload, RECLAIM if strictly else WHILE_BORROWING, ancestor, strictly)

    def _above_threshold(self, workload: Workload) -> bool:
        threshold = self.spec.preemption.threshold
        return workload.priority >= self.preemptor.priority or (threshold is not None and workload.priority > threshold)

    def _order(self, candidate: Candidate) -> tuple[bool, bool, int, float, int]:
        """Those on their way out, other queues, low priority, newest reservation."""
        workload = candidate.workload
        own = workload.queue == self.preemptor.queue
        return (not workload.evicting, own, workload.priority, -workload.reserved_at, workload.number)

    def _valid(self, candidate: Candidate, borrowing: bool) -> bool:
        """Whether its queue, and every cohort up to the common one, still uses more than its own."""
        if candidate.ancestor is None:
            return True
        if borrowing and candidate.only_unborrowed:
            return False
        node = self.state.nodes[candidate.workload.queue]
        if not node.exceeds(self.short):
            return False
        for above in node.ancestors():
            if above is candidate.ancestor:
                return True
            if not above.exceeds(self.short):
                return False
        return True


def _allows(policy: Policy, preemptor: Workload, candidate: Workload) -> bool:
    lower = preemptor.priority > candidate.priority
    if policy == "LowerPriority":
        return lower
    if policy == "LowerOrNewerEqualPriority":
        return lower or (preemptor.priority == candidate.priority and preemptor.stamp < candidate.stamp)
    return policy == "Any"
