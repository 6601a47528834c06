"""Kueue's queues and scheduling cycles, in virtual time.

After Kueue v0.19, pkg/scheduler/scheduler.go (cycles) and pkg/cache/queue (pending workloads). A cycle takes the head
of every ClusterQueue, assigns flavors to all of them against the same snapshot, and processes them in the order of its
classicalIterator; each sees the quota that those before it took. Time passes only in `simulation`, which calls
`run_cycles` after everything that may change a decision and `release_quota` when pods are gone. Left out: fair sharing,
admission checks, preemption gates, second passes, and what feature gates that are off by default change
(PrioritizePreemptorWorkloads, RecomputeAssignmentUponPreemptionTargetsOverlap).
"""

from __future__ import annotations

import heapq
from enum import Enum, auto
from typing import NamedTuple

from epp_batch.planner.cluster_model import ClusterQueue, KueueObjects
from epp_batch.planner.flavor_assigner import Assignment, PreemptionMode, assign_flavors
from epp_batch.planner.planned_job import PlannedJob
from epp_batch.planner.preemption import QuotaSnapshot
from epp_batch.planner.quota_tree import (
    NO_QUOTA,
    FlavorResource,
    FlavorResourceQuantities,
    ResourceNode,
    build_quota_tree,
)
from epp_batch.planner.workload import WorkloadInfo, compute_total_requests

QueueOrder = tuple[float, float, int]
EquivalenceHash = tuple[object, ...]


class AdmissionDecision(NamedTuple):
    """What a cycle decided about one workload: to admit it, or to evict it for `eviction_reason`."""

    workload: WorkloadInfo
    eviction_reason: str = ""
    preemption_reason: str = ""
    """InClusterQueue, InCohortReclamation or InCohortReclaimWhileBorrowing."""


class RequeueReason(Enum):
    """Why a head was not admitted. Kueue: RequeueReason."""

    NO_FIT = auto()
    PREEMPTION_NO_CANDIDATES = auto()
    PENDING_PREEMPTION = auto()
    """Its targets were evicted in this cycle; it waits until they are gone."""
    FAILED_AFTER_NOMINATION = auto()
    """Skipped: it no longer fits after what other heads took, or shares a preemption target with one of them."""


class PendingWorkloads:
    """The pending workloads of one ClusterQueue. Kueue: ClusterQueue of pkg/cache/queue.

    One heap for each equivalence class, of which Kueue keeps only the hash: as workloads of one class get the same
    admission result, a whole class is set aside at once.
    """

    def __init__(self, cluster_queue: ClusterQueue) -> None:
        self.cluster_queue = cluster_queue
        self.heaps: dict[EquivalenceHash, list[tuple[QueueOrder, WorkloadInfo]]] = {}
        self.inadmissible_hashes: set[EquivalenceHash] = set()
        """Classes that were found inadmissible since quota was last released (Kueue: inadmissibleWorkloads)."""
        self.in_backoff: list[WorkloadInfo] = []
        """Inadmissible until a time of their own (Kueue: backoffWaitingTimeExpired)."""
        self.preemptor_workload: WorkloadInfo | None = None
        """The sticky head, which waits for its targets to go (Kueue: preemptorWorkload, isSticky)."""

    def push_workload(self, workload: WorkloadInfo, now: float) -> None:
        """Queues a workload; into `in_backoff` if it may not be tried yet. Kueue: PushOrUpdate."""
        if now < workload.requeue_at:
            self.in_backoff.append(workload)
        else:
            heap = self.heaps.setdefault(workload.scheduling_hash, [])
            heapq.heappush(heap, (workload.queue_order, workload))

    def pop_head(self) -> WorkloadInfo | None:
        """Takes the first workload that is not set aside. Kueue: Pop."""
        if self.preemptor_workload is not None:
            workload, self.preemptor_workload = self.preemptor_workload, None
            return workload
        heaps = [heap for key, heap in self.heaps.items() if heap and key not in self.inadmissible_hashes]
        return heapq.heappop(min(heaps))[1] if heaps else None

    def requeue_workload(self, workload: WorkloadInfo, reason: RequeueReason, now: float) -> None:
        """Puts a head back that was not admitted. Kueue: RequeueIfNotPresent, requeueIfNotPresent.

        BestEffortFIFO keeps a preemptor at the head, and sets an inadmissible workload aside with its class
        (handleInadmissibleHash), so that the next one is tried. StrictFIFO leaves the head where it is, which blocks
        the queue.
        """
        if self.cluster_queue.is_strict_fifo:
            self.push_workload(workload, now)
        elif reason is RequeueReason.PENDING_PREEMPTION:
            self.preemptor_workload = workload
        else:
            self.push_workload(workload, now)
            if reason is not RequeueReason.FAILED_AFTER_NOMINATION:
                self.inadmissible_hashes.add(workload.scheduling_hash)

    def queue_inadmissible_workloads(self, now: float) -> None:
        """Makes all workloads eligible again, except those still in backoff. Kueue: queueInadmissibleWorkloads."""
        self.inadmissible_hashes.clear()
        in_backoff, self.in_backoff = self.in_backoff, []
        for workload in in_backoff:
            self.push_workload(workload, now)


class KueueScheduler:
    """All of Kueue's state for one simulation: queues, quota usage, workloads that hold quota."""

    def __init__(self, kueue_objects: KueueObjects) -> None:
        self.kueue_objects = kueue_objects
        self.cluster_queues = {queue.name: queue for queue in kueue_objects.cluster_queues}
        self.resource_nodes = build_quota_tree(kueue_objects)
        self.pending = {name: PendingWorkloads(queue) for name, queue in self.cluster_queues.items()}
        self.workloads: dict[str, list[WorkloadInfo]] = {name: [] for name in self.cluster_queues}
        """By ClusterQueue, those that hold quota."""
        self._workload_count = 0
        self._needs_cycle = False
        """A workload became eligible, or quota was released, since the last cycle."""

    def submit_job(self, job: PlannedJob, now: float) -> WorkloadInfo | None:
        """Queues a new workload; None when its LocalQueue or the ClusterQueue of that does not exist."""
        name = self.kueue_objects.local_queues.get(job.local_queue, "")
        if name not in self.cluster_queues:
            return None
        self._workload_count += 1
        total_requests = compute_total_requests(job, self.kueue_objects)
        workload = WorkloadInfo(job, name, total_requests, now, self._workload_count)
        self.pending[name].push_workload(workload, now)
        self._needs_cycle = True
        return workload

    def run_cycles(self, now: float) -> list[AdmissionDecision]:
        """Scheduling cycles until one would change nothing; the decisions in order."""
        decisions: list[AdmissionDecision] = []
        if not self._needs_cycle:
            return decisions
        self._needs_cycle = False
        while True:
            progress, new_decisions = self._schedule(now)
            decisions += new_decisions
            if not progress:
                return decisions

    def release_quota(self, workload: WorkloadInfo, now: float, *, requeue: bool) -> ResourceNode:
        """Takes the quota of a workload whose pods are gone; with `requeue` it becomes pending again.

        Returns the root of its tree, whose inadmissible workloads are due for `requeue_cohort_workloads`.
        """
        self._snapshot(now).remove_workload(workload)
        self.workloads[workload.cluster_queue].remove(workload)
        workload.usage, workload.is_evicted = {}, False
        self._needs_cycle = True
        if requeue:
            self.pending[workload.cluster_queue].push_workload(workload, now)
        return self.resource_nodes[workload.cluster_queue].root()

    def requeue_cohort_workloads(self, root: ResourceNode, now: float) -> None:
        """Makes inadmissible workloads below `root` eligible. Kueue: requeueWorkloadsCohort, requeueWorkloadsCQ."""
        self._needs_cycle = True
        for name, node in self.resource_nodes.items():
            if node.root() is root:
                self.pending[name].queue_inadmissible_workloads(now)

    def explain_inadmissible(self, workload: WorkloadInfo) -> str:
        """Why the workload can never be admitted; empty when it only waits for quota."""
        if self.cluster_queues[workload.cluster_queue].is_stopped:
            return f"ClusterQueue {workload.cluster_queue} is stopped"
        assignment = assign_flavors(self._snapshot(workload.created_at), workload)
        return assignment.message if assignment.never_fits else ""

    def _snapshot(self, now: float) -> QuotaSnapshot:
        return QuotaSnapshot(self.cluster_queues, self.resource_nodes, self.workloads, now)

    def _schedule(self, now: float) -> tuple[bool, list[AdmissionDecision]]:
        """One cycle: whether the next one may decide something else, and the decisions. Kueue: schedule."""
        snapshot = self._snapshot(now)
        active = [pending for pending in self.pending.values() if not pending.cluster_queue.is_stopped]
        heads = [head for pending in active if (head := pending.pop_head()) is not None]
        # Kueue: nominate.
        entries = [(head, assign_flavors(snapshot, head)) for head in heads]
        # Kueue: makeClassicalIterator. Requests under nominal quota first, then by priority, then first in, first out.
        entries.sort(key=lambda entry: (entry[1].borrowing, *entry[0].queue_order))
        cycle = _SchedulingCycle(snapshot)
        not_admitted = []
        for head, assignment in entries:
            reason = cycle.process_entry(head, assignment)
            if reason is not None:
                not_admitted.append((head, reason))
        cycle.revert_usage()
        progress = bool(cycle.decisions)
        for head, reason in not_admitted:
            # Kueue: requeueAndUpdate.
            pending = self.pending[head.cluster_queue]
            pending.requeue_workload(head, reason, now)
            if reason in (RequeueReason.NO_FIT, RequeueReason.PREEMPTION_NO_CANDIDATES):
                progress |= not pending.cluster_queue.is_strict_fifo
        return progress, cycle.decisions


class _SchedulingCycle:
    """Processes the entries of one cycle; usage that they assume counts until `revert_usage`."""

    def __init__(self, snapshot: QuotaSnapshot) -> None:
        self.snapshot = snapshot
        self.decisions: list[AdmissionDecision] = []
        self._preempted_workloads: list[WorkloadInfo] = []
        """Targets of this cycle (Kueue: preemptedWorkloads)."""
        self._assumed_usage: list[tuple[ResourceNode, FlavorResourceQuantities]] = []

    def process_entry(self, head: WorkloadInfo, assignment: Assignment) -> RequeueReason | None:
        """Admits a head or preempts for it; None if it was admitted. Kueue: processEntry."""
        node = self.snapshot.resource_nodes[head.cluster_queue]
        if assignment.representative_mode is PreemptionMode.NO_FIT:
            return RequeueReason.NO_FIT
        if assignment.representative_mode is not PreemptionMode.FIT and not assignment.preemption_targets:
            # Kueue: reserveCapacityForUnreclaimablePreempt, CanAlwaysReclaim.
            if self.snapshot.cluster_queues[head.cluster_queue].preemption.reclaim_within_cohort != "Any":
                self._add_usage(node, {fr: _quota_to_reserve(node, fr, assignment) for fr in assignment.usage})
            return RequeueReason.PREEMPTION_NO_CANDIDATES
        overlapping = any(target.workload in self._preempted_workloads for target in assignment.preemption_targets)
        # Kueue: markSkipped.
        if overlapping or not self._fits(node, assignment):
            return RequeueReason.FAILED_AFTER_NOMINATION
        if assignment.preemption_targets:
            self._issue_preemptions(assignment, node)
            return RequeueReason.PENDING_PREEMPTION
        self._admit_head(head, assignment, node)
        return None

    def revert_usage(self) -> None:
        """Ends the cycle: takes back the usage of heads that were not admitted."""
        for node, usage in self._assumed_usage:
            for fr, amount in usage.items():
                node.remove_usage(fr, amount)

    def _fits(self, node: ResourceNode, assignment: Assignment) -> bool:
        """Whether the assignment fits once all targets of this cycle and its own are gone. Kueue: fits."""
        targets = {
            id(workload): workload
            for workload in [*self._preempted_workloads, *(target.workload for target in assignment.preemption_targets)]
        }
        for workload in targets.values():
            self.snapshot.remove_workload(workload)
        fits = all(amount <= node.available(fr) for fr, amount in assignment.usage.items())
        for workload in targets.values():
            self.snapshot.add_workload(workload)
        return fits

    def _admit_head(self, head: WorkloadInfo, assignment: Assignment, node: ResourceNode) -> None:
        """Kueue: admit, assumeWorkload."""
        head.usage = dict(assignment.usage)
        for fr, amount in head.usage.items():
            node.add_usage(fr, amount)
        head.quota_reserved_at = self.snapshot.now
        self.snapshot.workloads[head.cluster_queue].append(head)
        self.decisions.append(AdmissionDecision(head))

    def _issue_preemptions(self, assignment: Assignment, node: ResourceNode) -> None:
        """Kueue: issuePreemptions; a target that is evicted already is not evicted again."""
        self._add_usage(node, assignment.usage)
        for target in assignment.preemption_targets:
            self._preempted_workloads.append(target.workload)
            if not target.workload.is_evicted:
                target.workload.is_evicted = True
                self.decisions.append(AdmissionDecision(target.workload, "Preempted", target.reason))

    def _add_usage(self, node: ResourceNode, usage: FlavorResourceQuantities) -> None:
        """Assumes usage until the end of the cycle. Kueue: AddUsage on the cycle's copy of the snapshot."""
        self._assumed_usage.append((node, dict(usage)))
        for fr, amount in usage.items():
            node.add_usage(fr, amount)


def _quota_to_reserve(node: ResourceNode, fr: FlavorResource, assignment: Assignment) -> int:
    """What a head without preemption candidates keeps from others in this cycle. Kueue: quotaResourcesToReserve."""
    quota, amount, used = node.quotas.get(fr, NO_QUOTA), assignment.usage[fr], node.usage_of(fr)
    if assignment.borrowing > 0:
        if quota.borrowing_limit is None:
            return amount
        return min(amount, quota.nominal + quota.borrowing_limit - used)
    return max(0, min(amount, quota.nominal - used))
