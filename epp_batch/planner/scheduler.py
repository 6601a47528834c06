"""Kueue in virtual time: queues, cycles, admissions, evictions. No clock, no heap of events: the simulation has those.

A cycle takes the head of every ClusterQueue, chooses flavors for each against the same snapshot, and goes through them
by: not borrowing first, priority, time. What is admitted counts at once; what must preempt first counts until the
cycle ends and is tried again when its victims are gone.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from epp_batch.planner import preemption
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
    """What Kueue decided about one workload: admitted, or to be evicted for a reason."""

    workload: WorkloadInfo
    eviction_reason: str = ""
    preemption_reason: str = ""
    """Of a preemption: InClusterQueue, InCohortReclamation or InCohortReclaimWhileBorrowing."""


class PendingWorkloads:
    """The workloads of one ClusterQueue that wait, in a heap for each shape: alike fit or do not fit alike."""

    def __init__(self, spec: ClusterQueue) -> None:
        self.cluster_queue = spec
        self.heaps: dict[EquivalenceHash, list[tuple[QueueOrder, WorkloadInfo]]] = {}
        self.inadmissible_hashes: set[EquivalenceHash] = set()
        """What was found not to fit since quota was last freed; its like is not tried either."""
        self.in_backoff: list[WorkloadInfo] = []
        """Must wait for a time of their own."""
        self.preemptor_workload: WorkloadInfo | None = None
        """Waits for its victims to go, ahead of everybody."""

    def push_workload(self, workload: WorkloadInfo, now: float) -> None:
        if now < workload.requeue_at:
            self.in_backoff.append(workload)
        else:
            heapq.heappush(self.heaps.setdefault(workload.scheduling_hash, []), (workload.queue_order, workload))

    def pop_head(self) -> WorkloadInfo | None:
        if self.preemptor_workload is not None:
            workload, self.preemptor_workload = self.preemptor_workload, None
            return workload
        heaps = [heap for shape, heap in self.heaps.items() if heap and shape not in self.inadmissible_hashes]
        return heapq.heappop(min(heaps))[1] if heaps else None

    def requeue_inadmissible(self, workload: WorkloadInfo, now: float) -> None:
        """Sets it aside with its like; a StrictFIFO queue keeps its head where it is, and so blocks."""
        self.push_workload(workload, now)
        if not self.cluster_queue.is_strict_fifo:
            self.inadmissible_hashes.add(workload.scheduling_hash)

    def queue_inadmissible_workloads(self, now: float) -> None:
        """Quota was freed: everybody is tried again, but for those who must wait longer."""
        self.inadmissible_hashes.clear()
        later, self.in_backoff = self.in_backoff, []
        for workload in later:
            self.push_workload(workload, now)


class KueueScheduler:
    """All of Kueue's state."""

    def __init__(self, kueue: KueueObjects) -> None:
        self.kueue_objects = kueue
        self.cluster_queues = {spec.name: spec for spec in kueue.cluster_queues}
        self.resource_nodes = build_quota_tree(kueue)
        self.pending = {name: PendingWorkloads(spec) for name, spec in self.cluster_queues.items()}
        self.workloads: dict[str, list[WorkloadInfo]] = {name: [] for name in self.cluster_queues}
        self._workload_count = 0
        self._needs_cycle = False
        """Somebody was put where a cycle would find them."""

    def submit_job(self, demand: PlannedJob, now: float) -> WorkloadInfo | None:
        """A new workload; None when its LocalQueue leads nowhere."""
        queue = self.kueue_objects.local_queues.get(demand.local_queue, "")
        if queue not in self.cluster_queues:
            return None
        self._workload_count += 1
        workload = WorkloadInfo(
            demand, queue, compute_total_requests(demand, self.kueue_objects), now, self._workload_count
        )
        self.pending[queue].push_workload(workload, now)
        self._needs_cycle = True
        return workload

    def run_cycles(self, now: float) -> list[AdmissionDecision]:
        """Cycles until nothing changes; what was decided, in order."""
        changes: list[AdmissionDecision] = []
        if not self._needs_cycle:
            return changes
        self._needs_cycle = False
        while True:
            progress, made = self._schedule(now)
            changes += made
            if not progress:
                return changes

    def release_quota(self, workload: WorkloadInfo, now: float, *, again: bool) -> ResourceNode:
        """Its pods are gone, the quota is free; with `again` it queues once more. Returns the root that may retry."""
        preemption.remove_workload(self._snapshot(now), workload)
        self.workloads[workload.cluster_queue].remove(workload)
        workload.usage, workload.is_evicted = {}, False
        self._needs_cycle = True
        if again:
            self.pending[workload.cluster_queue].push_workload(workload, now)
        return self.resource_nodes[workload.cluster_queue].root()

    def requeue_cohort_workloads(self, root: ResourceNode, now: float) -> None:
        """Quota was freed somewhere under `root`."""
        self._needs_cycle = True
        for name, node in self.resource_nodes.items():
            if node.root() is root:
                self.pending[name].queue_inadmissible_workloads(now)

    def explain_inadmissible(self, workload: WorkloadInfo) -> str:
        """Why it is not admitted, for people; empty when it only has to wait its turn."""
        if self.cluster_queues[workload.cluster_queue].is_stopped:
            return f"ClusterQueue {workload.cluster_queue} is stopped"
        choice = assign_flavors(self._snapshot(workload.created_at), workload)
        return choice.message if choice.never_fits else ""

    def _snapshot(self, now: float) -> QuotaSnapshot:
        return QuotaSnapshot(self.cluster_queues, self.resource_nodes, self.workloads, now)

    def _schedule(self, now: float) -> tuple[bool, list[AdmissionDecision]]:
        """One cycle: whether anything moved, and what was decided."""
        state = self._snapshot(now)
        active = [pending for pending in self.pending.values() if not pending.cluster_queue.is_stopped]
        heads = [head for pending in active if (head := pending.pop_head()) is not None]
        chosen = [(head, assign_flavors(state, head)) for head in heads]
        chosen.sort(key=lambda entry: (entry[1].borrowing, *entry[0].queue_order))
        cycle = _SchedulingCycle(state)
        for head, choice in chosen:
            cycle.process_entry(head, choice)
        cycle.revert_usage()
        progress = bool(cycle.decisions)
        for head in cycle.not_admitted:
            progress |= self._requeue_head(head, cycle)
        return progress, cycle.decisions

    def _requeue_head(self, head: WorkloadInfo, cycle: _SchedulingCycle) -> bool:
        """Returns a head that was not admitted to its queue; whether that lets others be tried."""
        pending = self.pending[head.cluster_queue]
        if head in cycle.pending_preemption:
            if pending.cluster_queue.is_strict_fifo:
                pending.push_workload(head, cycle.snapshot.now)
            else:
                pending.preemptor_workload = head
            return False
        if head in cycle.skipped:
            pending.push_workload(head, cycle.snapshot.now)
            return bool(cycle.decisions)
        pending.requeue_inadmissible(head, cycle.snapshot.now)
        return not pending.cluster_queue.is_strict_fifo


class _SchedulingCycle:
    """What happens to the heads, one after the other, each seeing what those before it took."""

    def __init__(self, state: QuotaSnapshot) -> None:
        self.snapshot = state
        self.decisions: list[AdmissionDecision] = []
        self.not_admitted: list[WorkloadInfo] = []
        self.pending_preemption: set[WorkloadInfo] = set()
        self.skipped: set[WorkloadInfo] = set()
        """Fitted at the start of the cycle, but not after what others took."""
        self._preempted_workloads: list[WorkloadInfo] = []
        self._assumed_usage: list[tuple[ResourceNode, FlavorResourceQuantities]] = []

    def process_entry(self, head: WorkloadInfo, choice: Assignment) -> None:
        node = self.snapshot.resource_nodes[head.cluster_queue]
        if choice.representative_mode is PreemptionMode.FIT:
            if self._fits(node, choice):
                self._admit_head(head, choice, node)
                return
            self.skipped.add(head)
        elif choice.preemption_targets:
            overlap = any(target.workload in self._preempted_workloads for target in choice.preemption_targets)
            if not overlap and self._fits(node, choice):
                self._issue_preemptions(head, choice, node)
            else:
                self.skipped.add(head)
        elif (
            choice.representative_mode is not PreemptionMode.NO_FIT
            and self.snapshot.cluster_queues[head.cluster_queue].preemption.reclaim_within_cohort != "Any"
        ):
            self._add_usage(node, {cell: self._quota_to_reserve(node, cell, choice) for cell in choice.usage})
        self.not_admitted.append(head)

    def revert_usage(self) -> None:
        """Ends the cycle: what was only set aside for waiting preemptors is free again."""
        for node, usage in self._assumed_usage:
            for cell, amount in usage.items():
                node.remove_usage(cell, amount)

    def _fits(self, node: ResourceNode, choice: Assignment) -> bool:
        """As it would be with all victims of this cycle and its own gone."""
        gone = {
            id(w): w for w in [*self._preempted_workloads, *(target.workload for target in choice.preemption_targets)]
        }
        for workload in gone.values():
            preemption.remove_workload(self.snapshot, workload)
        fits = all(amount <= node.available(cell) for cell, amount in choice.usage.items())
        for workload in gone.values():
            preemption.add_workload(self.snapshot, workload)
        return fits

    def _admit_head(self, head: WorkloadInfo, choice: Assignment, node: ResourceNode) -> None:
        head.usage = dict(choice.usage)
        for cell, amount in head.usage.items():
            node.add_usage(cell, amount)
        head.quota_reserved_at = self.snapshot.now
        self.snapshot.workloads[head.cluster_queue].append(head)
        self.decisions.append(AdmissionDecision(head))

    def _issue_preemptions(self, head: WorkloadInfo, choice: Assignment, node: ResourceNode) -> None:
        self.pending_preemption.add(head)
        self._add_usage(node, choice.usage)
        for target in choice.preemption_targets:
            self._preempted_workloads.append(target.workload)
            if not target.workload.is_evicted:
                target.workload.is_evicted = True
                self.decisions.append(AdmissionDecision(target.workload, "Preempted", target.reason))

    def _add_usage(self, node: ResourceNode, usage: FlavorResourceQuantities) -> None:
        self._assumed_usage.append((node, dict(usage)))
        for cell, amount in usage.items():
            node.add_usage(cell, amount)

    @staticmethod
    def _quota_to_reserve(node: ResourceNode, cell: FlavorResource, choice: Assignment) -> int:
        """What a queue that cannot always reclaim keeps from being lent away in this cycle."""
        quota, amount, used = node.quotas.get(cell, NO_QUOTA), choice.usage[cell], node.usage_of(cell)
        if choice.borrowing > 0:
            return (
                amount if quota.borrowing_limit is None else min(amount, quota.nominal + quota.borrowing_limit - used)
            )
        return max(0, min(amount, quota.nominal - used))
