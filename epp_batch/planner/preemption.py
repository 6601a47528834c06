"""Whom Kueue preempts: its classical algorithm (v0.19), which first takes, then gives back what was not needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from epp_batch.planner.cluster_model import ClusterQueue, PreemptionPolicy
from epp_batch.planner.quota_tree import NO_QUOTA, FlavorResource, FlavorResourceQuantities, ResourceNode
from epp_batch.planner.workload import WorkloadInfo

IN_CLUSTER_QUEUE, IN_COHORT_RECLAMATION, IN_COHORT_RECLAIM_WHILE_BORROWING = (
    "InClusterQueue",
    "InCohortReclamation",
    "InCohortReclaimWhileBorrowing",
)


class PreemptionTarget(NamedTuple):
    """A victim and Kueue's reason."""

    workload: WorkloadInfo
    reason: str


class PreemptionCandidate(NamedTuple):
    workload: WorkloadInfo
    reason: str
    lca: ResourceNode | None
    """The lowest cohort that both belong to; None in the preemptor's own queue."""
    reclaim_without_borrowing: bool
    """May be taken only while the preemptor does not borrow."""


class QuotaSnapshot(NamedTuple):
    """What a decision sees."""

    cluster_queues: dict[str, ClusterQueue]
    resource_nodes: dict[str, ResourceNode]
    workloads: dict[str, list[WorkloadInfo]]
    """By ClusterQueue, who has quota."""
    now: float


def remove_workload(state: QuotaSnapshot, workload: WorkloadInfo) -> None:
    """Takes its usage away, as if it were gone."""
    for cell, amount in workload.usage.items():
        state.resource_nodes[workload.cluster_queue].remove_usage(cell, amount)


def add_workload(state: QuotaSnapshot, workload: WorkloadInfo) -> None:
    for cell, amount in workload.usage.items():
        state.resource_nodes[workload.cluster_queue].add_usage(cell, amount)


def get_targets(
    state: QuotaSnapshot, preemptor: WorkloadInfo, wanted: FlavorResourceQuantities, short: set[FlavorResource]
) -> list[PreemptionTarget]:
    """Who must go so that `wanted` fits, where `short` are the cells with too little; none when nothing helps."""
    rules = state.cluster_queues[preemptor.cluster_queue].preemption
    if rules.within_cluster_queue == "Never" and (
        rules.reclaim_within_cohort == "Never" or state.resource_nodes[preemptor.cluster_queue].parent is None
    ):
        return []
    search = _ClassicalPreemptions(state, preemptor, wanted, short)
    for borrowing in search.attempt_options():
        found = search.run_attempt(borrowing)
        if found:
            return found
    return []


class _ClassicalPreemptions:
    def __init__(
        self,
        state: QuotaSnapshot,
        preemptor: WorkloadInfo,
        wanted: FlavorResourceQuantities,
        short: set[FlavorResource],
    ) -> None:
        self.snapshot, self.preemptor, self.requests, self.frs_need_preemption = state, preemptor, wanted, short
        self.cluster_queue, self.preemptor_node = (
            state.cluster_queues[preemptor.cluster_queue],
            state.resource_nodes[preemptor.cluster_queue],
        )
        own = list(self._candidates_from_cluster_queue(self.cluster_queue.name, None, advantage=False))
        self.hierarchy_candidates: list[PreemptionCandidate] = []
        self.priority_candidates: list[PreemptionCandidate] = []
        self._collect_candidates_for_hierarchical_reclaim()
        lists = [
            sorted(some, key=self._candidates_ordering)
            for some in (self.hierarchy_candidates, self.priority_candidates, own)
        ]
        gone = [c for some in lists for c in some if c.workload.is_evicted]
        self.candidates = gone + [c for some in lists for c in some if not c.workload.is_evicted]

    def attempt_options(self) -> tuple[bool, ...]:
        """With and without borrowing, in Kueue's order."""
        forbidden = self.cluster_queue.preemption.borrow_within_cohort == "Never"
        under = all(
            self.preemptor_node.quotas.get(cell, NO_QUOTA).nominal > self.preemptor_node.usage_of(cell)
            for cell in self.frs_need_preemption
        )
        if not (self.hierarchy_candidates or self.priority_candidates) or (forbidden and not under):
            return (True,)
        return (False, True) if forbidden and not self.hierarchy_candidates else (True, False)

    def run_attempt(self, borrowing: bool) -> list[PreemptionTarget]:
        taken: list[PreemptionTarget] = []
        for candidate in self.candidates:
            if not self._candidate_is_valid(candidate, borrowing):
                continue
            remove_workload(self.snapshot, candidate.workload)
            taken.append(PreemptionTarget(candidate.workload, candidate.reason))
            if self._workload_fits(borrowing):
                kept = self._fill_back_workloads(taken, borrowing)
                for target in kept:
                    add_workload(self.snapshot, target.workload)
                return kept
        for target in taken:
            add_workload(self.snapshot, target.workload)
        return []

    def _fill_back_workloads(self, taken: list[PreemptionTarget], borrowing: bool) -> list[PreemptionTarget]:
        """Newest first, whoever need not go after all."""
        for i in range(len(taken) - 2, -1, -1):
            add_workload(self.snapshot, taken[i].workload)
            if self._workload_fits(borrowing):
                taken[i] = taken[-1]
                taken.pop()
            else:
                remove_workload(self.snapshot, taken[i].workload)
        return taken

    def _workload_fits(self, borrowing: bool) -> bool:
        return all(
            (borrowing or not self.preemptor_node.borrowing_with(cell, amount))
            and amount <= self.preemptor_node.available(cell)
            for cell, amount in self.requests.items()
        )

    def _collect_candidates_for_hierarchical_reclaim(self) -> None:
        """Candidates of other queues: those over whom its place in the tree gives the preemptor a right, and others."""
        if self.preemptor_node.parent is None or self.cluster_queue.preemption.reclaim_within_cohort == "Never":
            return
        advantage, left = self.preemptor_node.quantities_fit_in_quota(self.requests)
        seen: ResourceNode | None = None
        for root in self.preemptor_node.path_parent_to_root():
            into = self.hierarchy_candidates if advantage else self.priority_candidates
            self._collect_candidates_in_subtree(root, root, seen, advantage, into)
            fits, left = root.quantities_fit_in_quota(left)
            advantage = advantage or fits
            seen = root

    def _collect_candidates_in_subtree(
        self,
        node: ResourceNode,
        root: ResourceNode,
        skip: ResourceNode | None,
        advantage: bool,
        into: list[PreemptionCandidate],
    ) -> None:
        for child in node.children:
            if (
                child is skip
                or child is self.preemptor_node
                or not child.exceeds_nominal_in_resources(self.frs_need_preemption)
            ):
                continue
            if child.is_cluster_queue:
                into.extend(self._candidates_from_cluster_queue(child.name, root, advantage=advantage))
            else:
                self._collect_candidates_in_subtree(child, root, skip, advantage, into)

    def _candidates_from_cluster_queue(
        self, queue: str, ancestor: ResourceNode | None, *, advantage: bool
    ) -> Iterator[PreemptionCandidate]:
        rules = self.cluster_queue.preemption
        policy = rules.within_cluster_queue if ancestor is None else rules.reclaim_within_cohort
        for workload in self.snapshot.workloads[queue]:
            if not self.frs_need_preemption & workload.usage.keys() or not _satisfies_preemption_policy(
                policy, self.preemptor, workload
            ):
                continue
            if ancestor is None:
                yield PreemptionCandidate(workload, IN_CLUSTER_QUEUE, None, False)
            elif advantage:
                yield PreemptionCandidate(workload, IN_COHORT_RECLAMATION, ancestor, False)
            else:
                strictly = rules.borrow_within_cohort == "Never" or self._is_above_borrowing_threshold(workload)
                yield PreemptionCandidate(
                    workload,
                    IN_COHORT_RECLAMATION if strictly else IN_COHORT_RECLAIM_WHILE_BORROWING,
                    ancestor,
                    strictly,
                )

    def _is_above_borrowing_threshold(self, workload: WorkloadInfo) -> bool:
        threshold = self.cluster_queue.preemption.max_priority_threshold
        return workload.priority >= self.preemptor.priority or (threshold is not None and workload.priority > threshold)

    def _candidates_ordering(self, candidate: PreemptionCandidate) -> tuple[bool, bool, int, float, int]:
        """Those on their way out, other queues, low priority, newest reservation."""
        workload = candidate.workload
        own = workload.cluster_queue == self.preemptor.cluster_queue
        return (not workload.is_evicted, own, workload.priority, -workload.quota_reserved_at, workload.sequence)

    def _candidate_is_valid(self, candidate: PreemptionCandidate, borrowing: bool) -> bool:
        """Whether its queue, and every cohort up to the common one, still uses more than its own."""
        if candidate.lca is None:
            return True
        if borrowing and candidate.reclaim_without_borrowing:
            return False
        node = self.snapshot.resource_nodes[candidate.workload.cluster_queue]
        if not node.exceeds_nominal_in_resources(self.frs_need_preemption):
            return False
        for above in node.path_parent_to_root():
            if above is candidate.lca:
                return True
            if not above.exceeds_nominal_in_resources(self.frs_need_preemption):
                return False
        return True


def _satisfies_preemption_policy(policy: PreemptionPolicy, preemptor: WorkloadInfo, candidate: WorkloadInfo) -> bool:
    lower = preemptor.priority > candidate.priority
    if policy == "LowerPriority":
        return lower
    if policy == "LowerOrNewerEqualPriority":
        return lower or (
            preemptor.priority == candidate.priority
            and preemptor.queue_order_timestamp < candidate.queue_order_timestamp
        )
    return policy == "Any"
