"""Which workloads Kueue preempts for another one: its classical algorithm, without fair sharing.

After Kueue v0.19: `classicalPreemptions` in pkg/scheduler/preemption/preemption.go and the packages `classical` and
`common` beside it. Functions carry the names of theirs, so that the two can be compared when Kueue changes. Left out:
fair sharing, topology-aware scheduling, workload slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from epp_batch.planner.cluster_model import ClusterQueue, PreemptionPolicy
from epp_batch.planner.quota_tree import NO_QUOTA, FlavorResource, FlavorResourceQuantities, ResourceNode
from epp_batch.planner.workload import WorkloadInfo


class PreemptionVariant(Enum):
    """On which ground a candidate may be preempted. Kueue: preemptionVariant; its `Never` is no candidate here."""

    WITHIN_CQ = auto()
    """Same ClusterQueue, lower in the queue order."""
    HIERARCHICAL_RECLAIM = auto()
    """The preemptor is nearer to the quota that the candidate uses."""
    RECLAIM_WITHOUT_BORROWING = auto()
    """Only if the preemptor's ClusterQueue does not borrow afterwards."""
    RECLAIM_WHILE_BORROWING = auto()
    """Even if it borrows afterwards."""


PREEMPTION_REASONS = {
    PreemptionVariant.WITHIN_CQ: "InClusterQueue",
    PreemptionVariant.HIERARCHICAL_RECLAIM: "InCohortReclamation",
    PreemptionVariant.RECLAIM_WITHOUT_BORROWING: "InCohortReclamation",
    PreemptionVariant.RECLAIM_WHILE_BORROWING: "InCohortReclaimWhileBorrowing",
}
"""The reason in the condition Preempted. Kueue: preemptionVariant.PreemptionReason."""


class PreemptionTarget(NamedTuple):
    """A workload to be preempted, and the reason in its condition."""

    workload: WorkloadInfo
    reason: str


class PreemptionCandidate(NamedTuple):
    """A workload that may be preempted. Kueue: candidateElem."""

    workload: WorkloadInfo
    lca: ResourceNode | None
    """Lowest common ancestor: the lowest cohort of both ClusterQueues; None within one ClusterQueue."""
    variant: PreemptionVariant


class QuotaSnapshot(NamedTuple):
    """What one decision sees. Kueue: Snapshot of pkg/cache/scheduler.

    Not a copy: a simulation changes the usage of the live nodes and has to restore it.
    """

    cluster_queues: dict[str, ClusterQueue]
    resource_nodes: dict[str, ResourceNode]
    """By ClusterQueue."""
    workloads: dict[str, list[WorkloadInfo]]
    """By ClusterQueue, those that hold quota."""
    now: float

    def remove_workload(self, workload: WorkloadInfo) -> None:
        """Takes the workload's usage out of the tree. Kueue: RemoveWorkload."""
        node = self.resource_nodes[workload.cluster_queue]
        for fr, amount in workload.usage.items():
            node.remove_usage(fr, amount)

    def add_workload(self, workload: WorkloadInfo) -> None:
        """Puts the workload's usage back into the tree. Kueue: AddWorkload."""
        node = self.resource_nodes[workload.cluster_queue]
        for fr, amount in workload.usage.items():
            node.add_usage(fr, amount)


def get_targets(
    snapshot: QuotaSnapshot,
    preemptor: WorkloadInfo,
    requests: FlavorResourceQuantities,
    frs_need_preemption: set[FlavorResource],
) -> list[PreemptionTarget]:
    """A small set of workloads whose preemption makes room for `requests`; empty if there is none.

    `frs_need_preemption` are the flavor resources of which too little is available; only workloads that use one of them
    are candidates. Kueue: getTargets, classicalPreemptions.
    """
    preemption = snapshot.cluster_queues[preemptor.cluster_queue].preemption
    has_parent = snapshot.resource_nodes[preemptor.cluster_queue].parent is not None
    if preemption.within_cluster_queue == "Never" and (preemption.reclaim_within_cohort == "Never" or not has_parent):
        return []
    search = _ClassicalPreemptions(snapshot, preemptor, requests, frs_need_preemption)
    for allow_borrowing in search.attempt_options():
        targets = search.run_attempt(allow_borrowing)
        if targets:
            return targets
    return []


class _ClassicalPreemptions:
    """One search for targets. Kueue: preemptionCtx with its HierarchicalPreemptionCtx and candidateIterator."""

    def __init__(
        self,
        snapshot: QuotaSnapshot,
        preemptor: WorkloadInfo,
        requests: FlavorResourceQuantities,
        frs_need_preemption: set[FlavorResource],
    ) -> None:
        self.snapshot = snapshot
        self.preemptor = preemptor
        self.requests = requests
        self.frs_need_preemption = frs_need_preemption
        self.cluster_queue = snapshot.cluster_queues[preemptor.cluster_queue]
        self.preemptor_node = snapshot.resource_nodes[preemptor.cluster_queue]
        # Kueue: NewCandidateIterator. Three classes of candidates, each sorted by itself: hierarchy candidates, over
        # which the preemptor has an advantage by its place in the tree and which it may preempt whatever their
        # priority; priority candidates of other queues, to which borrowWithinCohort applies; those of its own queue.
        same_queue_candidates = list(self._get_candidates_from_cq(self.cluster_queue.name, None, False))
        self.hierarchy_candidates: list[PreemptionCandidate] = []
        self.priority_candidates: list[PreemptionCandidate] = []
        self._collect_candidates_for_hierarchical_reclaim()
        classes = [
            sorted(candidates, key=self._candidates_ordering)
            for candidates in (self.hierarchy_candidates, self.priority_candidates, same_queue_candidates)
        ]
        # Kueue: splitEvicted. Workloads that are evicted already go first, whatever their class.
        evicted = [c for candidates in classes for c in candidates if c.workload.is_evicted]
        self.candidates = evicted + [c for candidates in classes for c in candidates if not c.workload.is_evicted]

    def attempt_options(self) -> tuple[bool, ...]:
        """The values of `allow_borrowing` to try, in this order. Kueue: attemptPossibleOpts in classicalPreemptions.

        Without borrowing there are more candidates, with borrowing there is more quota, so both may be needed. Their
        order is arbitrary: Kueue tries without borrowing first where its earlier versions did.
        """
        borrowing_forbidden = self.cluster_queue.preemption.borrow_within_cohort == "Never"
        # Kueue: queueUnderNominalInResourcesNeedingPreemption.
        under_nominal = all(
            self.preemptor_node.quotas.get(fr, NO_QUOTA).nominal > self.preemptor_node.usage_of(fr)
            for fr in self.frs_need_preemption
        )
        none_from_other_queues = not (self.hierarchy_candidates or self.priority_candidates)
        if none_from_other_queues or (borrowing_forbidden and not under_nominal):
            return (True,)
        if borrowing_forbidden and not self.hierarchy_candidates:
            return (False, True)
        return (True, False)

    def run_attempt(self, allow_borrowing: bool) -> list[PreemptionTarget]:
        """Removes candidates until the requests fit, then adds back those that need not go.

        Empty if the requests do not fit even without all candidates. Leaves the snapshot as it was (Kueue:
        restoreSnapshot).
        """
        removed: list[PreemptionTarget] = []
        targets: list[PreemptionTarget] = []
        for candidate in self.candidates:
            if not self._candidate_is_valid(candidate, allow_borrowing):
                continue
            self.snapshot.remove_workload(candidate.workload)
            removed.append(PreemptionTarget(candidate.workload, PREEMPTION_REASONS[candidate.variant]))
            if self._workload_fits(allow_borrowing):
                targets = removed = self._fill_back_workloads(removed, allow_borrowing)
                break
        for target in removed:
            self.snapshot.add_workload(target.workload)
        return targets

    def _fill_back_workloads(self, targets: list[PreemptionTarget], allow_borrowing: bool) -> list[PreemptionTarget]:
        """Adds targets back in reverse order as long as the requests still fit. Kueue: fillBackWorkloads.

        A target that is added back is replaced by the last one, as in Kueue: the order of the result depends on it.
        """
        for i in range(len(targets) - 2, -1, -1):
            self.snapshot.add_workload(targets[i].workload)
            if self._workload_fits(allow_borrowing):
                targets[i] = targets[-1]
                targets.pop()
            else:
                self.snapshot.remove_workload(targets[i].workload)
        return targets

    def _workload_fits(self, allow_borrowing: bool) -> bool:
        """Kueue: workloadFits."""
        return all(
            (allow_borrowing or not self.preemptor_node.borrowing_with(fr, amount))
            and amount <= self.preemptor_node.available(fr)
            for fr, amount in self.requests.items()
        )

    def _collect_candidates_for_hierarchical_reclaim(self) -> None:
        """Candidates of other ClusterQueues, subtree by subtree from the nearest cohort to the root.

        Once a subtree has quota for the requests, the preemptor has hierarchical advantage over every workload outside
        that uses its quota. Kueue: collectCandidatesForHierarchicalReclaim.
        """
        if self.preemptor_node.parent is None or self.cluster_queue.preemption.reclaim_within_cohort == "Never":
            return
        has_advantage, remaining = self.preemptor_node.quantities_fit_in_quota(self.requests)
        previous_root: ResourceNode | None = None
        for subtree_root in self.preemptor_node.path_parent_to_root():
            candidates = self.hierarchy_candidates if has_advantage else self.priority_candidates
            self._collect_candidates_in_subtree(subtree_root, subtree_root, previous_root, has_advantage, candidates)
            fits, remaining = subtree_root.quantities_fit_in_quota(remaining)
            has_advantage = has_advantage or fits
            previous_root = subtree_root

    def _collect_candidates_in_subtree(
        self,
        cohort: ResourceNode,
        subtree_root: ResourceNode,
        skipped_subtree: ResourceNode | None,
        has_advantage: bool,
        result: list[PreemptionCandidate],
    ) -> None:
        """Appends the candidates below `cohort`, except in subtrees within their quota and in the one done before.

        Kueue: collectCandidatesInSubtree, which visits child cohorts before ClusterQueues; the result is sorted anyway.
        """
        for child in cohort.children:
            if child is skipped_subtree or child is self.preemptor_node:
                continue
            if child.is_within_nominal_in_resources(self.frs_need_preemption):
                continue
            if child.is_cluster_queue:
                result.extend(self._get_candidates_from_cq(child.name, subtree_root, has_advantage))
            else:
                self._collect_candidates_in_subtree(child, subtree_root, skipped_subtree, has_advantage, result)

    def _get_candidates_from_cq(
        self, cluster_queue: str, lca: ResourceNode | None, has_advantage: bool
    ) -> Iterator[PreemptionCandidate]:
        """Kueue: getCandidatesFromCQ."""
        for workload in self.snapshot.workloads[cluster_queue]:
            variant = self._classify_preemption_variant(workload, has_advantage)
            if variant is not None:
                yield PreemptionCandidate(workload, lca, variant)

    def _classify_preemption_variant(self, candidate: WorkloadInfo, has_advantage: bool) -> PreemptionVariant | None:
        """None for a workload that may not be preempted. Kueue: classifyPreemptionVariant."""
        if not self.frs_need_preemption & candidate.usage.keys():
            return None
        preemption = self.cluster_queue.preemption
        same_queue = candidate.cluster_queue == self.preemptor.cluster_queue
        policy = preemption.within_cluster_queue if same_queue else preemption.reclaim_within_cohort
        if not _satisfies_preemption_policy(policy, self.preemptor, candidate):
            return None
        if same_queue:
            return PreemptionVariant.WITHIN_CQ
        if has_advantage:
            return PreemptionVariant.HIERARCHICAL_RECLAIM
        if preemption.borrow_within_cohort == "Never" or self._is_above_borrowing_threshold(candidate):
            return PreemptionVariant.RECLAIM_WITHOUT_BORROWING
        return PreemptionVariant.RECLAIM_WHILE_BORROWING

    def _is_above_borrowing_threshold(self, candidate: WorkloadInfo) -> bool:
        """Kueue: isAboveBorrowingThreshold."""
        threshold = self.cluster_queue.preemption.max_priority_threshold
        if candidate.priority >= self.preemptor.priority:
            return True
        return threshold is not None and candidate.priority > threshold

    def _candidates_ordering(self, candidate: PreemptionCandidate) -> tuple[bool, bool, int, float, int]:
        """Sort key: evicted already, other ClusterQueues, low priority, late quota reservation first.

        Kueue: CandidatesOrdering, without admission fair sharing.
        """
        workload = candidate.workload
        same_queue = workload.cluster_queue == self.preemptor.cluster_queue
        return (not workload.is_evicted, same_queue, workload.priority, -workload.quota_reserved_at, workload.sequence)

    def _candidate_is_valid(self, candidate: PreemptionCandidate, allow_borrowing: bool) -> bool:
        """Whether a candidate may be removed from the snapshot as it is now.

        Its ClusterQueue and every cohort below the common one must still use more than their quota: the removals before
        it may have changed that. Kueue: candidateIsValid.
        """
        if candidate.lca is None:
            return True
        if allow_borrowing and candidate.variant is PreemptionVariant.RECLAIM_WITHOUT_BORROWING:
            return False
        node = self.snapshot.resource_nodes[candidate.workload.cluster_queue]
        if node.is_within_nominal_in_resources(self.frs_need_preemption):
            return False
        for cohort in node.path_parent_to_root():
            if cohort is candidate.lca:
                break
            if cohort.is_within_nominal_in_resources(self.frs_need_preemption):
                return False
        return True


def _satisfies_preemption_policy(policy: PreemptionPolicy, preemptor: WorkloadInfo, candidate: WorkloadInfo) -> bool:
    """Kueue: SatisfiesPreemptionPolicy."""
    lower_priority = preemptor.priority > candidate.priority
    if policy == "LowerPriority":
        return lower_priority
    if policy == "LowerOrNewerEqualPriority":
        same_priority = preemptor.priority == candidate.priority
        newer = preemptor.queue_order_timestamp < candidate.queue_order_timestamp
        return lower_priority or (same_priority and newer)
    return policy == "Any"
