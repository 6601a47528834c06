"""A run in virtual time: Jobs are created, Kueue admits them, the scheduler places them, they run and end.

Nothing here is random and nothing waits: equal input gives equal events.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

from epp_batch.planner.cluster_model import ClusterModel, WaitForPodsReady
from epp_batch.planner.placement import PodPlacement, PodScheduler
from epp_batch.planner.planned_job import PlannedJob
from epp_batch.planner.quota_tree import ResourceNode
from epp_batch.planner.scheduler import AdmissionDecision, KueueScheduler
from epp_batch.planner.workload import WorkloadInfo
from epp_batch.timeline import EventKind, TimelineEvent

NO_NODE_FITS = "admitted, but no node has what it asks for"


class SimulatedPod:
    """One admission of one demand: waiting for a place, or running."""

    def __init__(self, demand: PlannedJob, workload: WorkloadInfo | None, labels: dict[str, str], attempt: int) -> None:
        self.job, self.workload, self.node_selector, self.attempt = demand, workload, labels, attempt
        self.equivalence_key = (*sorted(demand.requests.items()), *sorted(labels.items()))
        self.sequence = 0
        self.placement: PodPlacement | None = None
        self.started_at = 0.0
        self.remaining_seconds = 0.0
        self.is_deleted = False
        self.is_terminating = False
        """Told to stop: it will not start any more, nor finish."""


class Simulation:
    """One run. `run` gives its events in order of time."""

    def __init__(
        self, world: ClusterModel, demands: Sequence[PlannedJob], arrivals: Sequence[float] | None = None
    ) -> None:
        self.cluster_model = world
        self.delays = world.delays
        self.kueue = KueueScheduler(world.kueue) if world.kueue else None
        self.pod_scheduler = PodScheduler(world.nodes)
        self.now = 0.0
        self.events: list[TimelineEvent] = []
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._pending_pods: dict[tuple[object, ...], deque[SimulatedPod]] = {}
        """By shape, since alike fit or do not fit alike; each in order of arrival."""
        self._needs_scheduling = False
        """A pod is new, or one is gone: the scheduler has reason to look again."""
        self._pods: dict[str, SimulatedPod] = {}
        self._attempts: dict[str, int] = {}
        self._remaining_work = {demand.unit: demand.work_seconds for demand in demands}
        """Work that is still to be done, by unit."""
        self._unfinished: dict[str, WorkloadInfo | PlannedJob] = {}
        times = arrivals if arrivals is not None else [i * self.delays.submit_interval for i in range(len(demands))]
        for at, demand in zip(times, demands, strict=True):
            self._schedule_action(at, lambda demand=demand: self._create_job(demand))  # type: ignore[misc]

    def run(self) -> list[TimelineEvent]:
        """Until nothing happens any more. Whoever could not run ends as failed, with the reason."""
        while self._actions:
            self.now = self._actions[0][0]
            while self._actions and self._actions[0][0] <= self.now:
                heapq.heappop(self._actions)[2]()
            self._run_schedulers()
        for unit, what in self._unfinished.items():
            self._record_event(unit, "failed", detail=self._explain_never_run(what))
        return self.events

    def _schedule_action(self, delay: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._actions, (self.now + delay, self._sequence, action))

    def _record_event(self, unit: str, kind: EventKind, *, place: str = "", detail: str = "") -> None:
        attempt = self._attempts.get(unit, 0)
        self.events.append(
            TimelineEvent(at=self.now, unit=unit, kind=kind, place=place, detail=detail, attempt=attempt)
        )

    def _create_job(self, demand: PlannedJob) -> None:
        self._record_event(demand.unit, "created")
        self._unfinished[demand.unit] = demand
        if self.kueue is None:
            self._attempts[demand.unit] = 1
            self._create_pod(demand, None, {})
            return
        workload = self.kueue.submit_job(demand, self.now)
        if workload is not None:
            self._unfinished[demand.unit] = workload
            self._record_event(demand.unit, "queued")

    def _run_schedulers(self) -> None:
        """Kueue's cycles, then the scheduler's."""
        if self.kueue is not None:
            for change in self.kueue.run_cycles(self.now):
                self._apply_decision(change)
        self._schedule_pods()

    def _apply_decision(self, change: AdmissionDecision) -> None:
        unit = change.workload.name
        if change.eviction_reason:
            self._evict_workload(change.workload, change.eviction_reason)
            return
        self._attempts[unit] = self._attempts.get(unit, 0) + 1
        self._record_event(unit, "reserved")
        self._record_event(unit, "admitted")
        assert self.cluster_model.kueue is not None
        labels: dict[str, str] = {}
        for flavor, _ in change.workload.usage:
            labels |= self.cluster_model.kueue.flavor_node_labels.get(flavor, {})
        pod = self._create_pod(change.workload.job, change.workload, labels)
        ready = self.cluster_model.kueue.wait_for_pods_ready
        if ready is not None:
            self._schedule_action(ready.timeout, lambda: self._on_pods_ready_timeout(pod))

    def _create_pod(self, demand: PlannedJob, workload: WorkloadInfo | None, labels: dict[str, str]) -> SimulatedPod:
        pod = self._pods[demand.unit] = SimulatedPod(demand, workload, labels, self._attempts[demand.unit])
        if self.delays.pod_startup:
            self._schedule_action(
                self.delays.pod_startup,
                lambda: None if pod.is_deleted or pod.is_terminating else self._enqueue_pod(pod),
            )
        else:
            self._enqueue_pod(pod)
        return pod

    def _enqueue_pod(self, pod: SimulatedPod) -> None:
        self._sequence += 1
        pod.sequence = self._sequence
        self._pending_pods.setdefault(pod.equivalence_key, deque()).append(pod)
        self._needs_scheduling = True

    def _schedule_pods(self) -> None:
        """Every waiting pod in order; one that does not fit does not block those behind it, but for its like."""
        if not self._needs_scheduling:
            return
        self._needs_scheduling = False
        rows = [row for row in self._pending_pods.values() if row]
        while rows:
            row = min(rows, key=lambda row: row[0].sequence)
            place = self.pod_scheduler.schedule_pod(row[0].job, row[0].node_selector)
            if place is not None:
                self._start_pod(row.popleft(), place)
            if place is None or not row:
                rows.remove(row)

    def _start_pod(self, pod: SimulatedPod, place: PodPlacement) -> None:
        pod.placement, pod.started_at = place, self.now
        pod.remaining_seconds = pod.job.startup_seconds + self._remaining_work[pod.job.unit]
        self._record_event(pod.job.unit, "running", place=str(place))
        self._schedule_action(
            pod.remaining_seconds, lambda: None if pod.is_deleted or pod.is_terminating else self._finish_pod(pod)
        )

    def _finish_pod(self, pod: SimulatedPod) -> None:
        self._delete_pod(pod)
        self._record_event(pod.job.unit, "finished", place=str(pod.placement))
        del self._unfinished[pod.job.unit]
        workload = pod.workload
        if workload is not None:
            self._schedule_action(self.delays.job_completion, lambda: self._release_quota(workload, again=False))

    def _evict_workload(self, workload: WorkloadInfo, reason: str) -> None:
        workload.is_evicted = True
        pod = self._pods[workload.name]
        pod.is_terminating = True
        self._dequeue_pod(pod)
        self._record_event(workload.name, "evicted", place=str(pod.placement or ""), detail=reason)
        if pod.placement is not None and self.cluster_model.resume_after_preemption:
            done = max(0.0, self.now - pod.started_at - pod.job.startup_seconds)
            self._remaining_work[workload.name] = max(0.0, self._remaining_work[workload.name] - done)
        self._schedule_action(self.delays.pod_termination, lambda: self._complete_eviction(pod, workload))

    def _complete_eviction(self, pod: SimulatedPod, workload: WorkloadInfo) -> None:
        if not pod.is_deleted:
            self._delete_pod(pod)
            self._record_event(workload.name, "requeued")
            self._release_quota(workload, again=True)

    def _delete_pod(self, pod: SimulatedPod) -> None:
        pod.is_deleted = self._needs_scheduling = True
        if pod.placement is not None:
            self.pod_scheduler.remove_pod(pod.job, pod.placement)
        else:
            self._dequeue_pod(pod)

    def _dequeue_pod(self, pod: SimulatedPod) -> None:
        """It waits for no place any more, if it did."""
        row = self._pending_pods.get(pod.equivalence_key, ())
        if pod in row:
            self._pending_pods[pod.equivalence_key].remove(pod)

    def _release_quota(self, workload: WorkloadInfo, *, again: bool) -> None:
        assert self.kueue is not None
        root = self.kueue.release_quota(workload, self.now, again=again)
        self._requeue_cohort_later(root)

    def _requeue_cohort_later(self, root: ResourceNode) -> None:
        queues = self.kueue
        assert queues is not None
        self._schedule_action(self.delays.requeue_batch_period, lambda: queues.requeue_cohort_workloads(root, self.now))

    def _on_pods_ready_timeout(self, pod: SimulatedPod) -> None:
        """The time to become ready is over: another try later, until it has had enough of them or can never fit."""
        workload, kueue, queues = pod.workload, self.cluster_model.kueue, self.kueue
        if (
            pod.is_deleted
            or pod.is_terminating
            or pod.placement is not None
            or workload is None
            or kueue is None
            or queues is None
        ):
            return
        ready = kueue.wait_for_pods_ready or WaitForPodsReady()
        workload.requeue_count += 1
        if ready.backoff_limit_count is not None and workload.requeue_count > ready.backoff_limit_count:
            self._deactivate_workload(pod, workload, "deactivated: its pods were not ready in time too often")
        elif not self.pod_scheduler.fits_empty_cluster(pod.job, pod.node_selector):
            self._deactivate_workload(pod, workload, NO_NODE_FITS)
        else:
            wait = min(ready.backoff_base_seconds * 2 ** (workload.requeue_count - 1), ready.backoff_max_seconds)
            workload.requeue_at = self.now + wait
            if ready.requeues_by_eviction_time:
                workload.queue_order_timestamp = self.now
            root = queues.resource_nodes[workload.cluster_queue].root()
            self._schedule_action(wait, lambda: self._requeue_cohort_later(root))
            self._evict_workload(workload, "PodsReadyTimeout")

    def _deactivate_workload(self, pod: SimulatedPod, workload: WorkloadInfo, why: str) -> None:
        """It will not be tried again."""
        self._record_event(workload.name, "evicted", detail="PodsReadyTimeout")
        self._record_event(workload.name, "failed", detail=why)
        self._delete_pod(pod)
        del self._unfinished[workload.name]
        self._release_quota(workload, again=False)

    def _explain_never_run(self, what: WorkloadInfo | PlannedJob) -> str:
        """Why it never ran."""
        if self.kueue is None or self.cluster_model.kueue is None:
            return "no node has what it asks for"
        if isinstance(what, PlannedJob):
            leads_to = self.cluster_model.kueue.local_queues.get(what.local_queue)
            return (
                f"LocalQueue {what.local_queue} needs ClusterQueue {leads_to}"
                if leads_to
                else f"no LocalQueue {what.local_queue}"
            )
        pod = self._pods.get(what.name)
        if pod is not None and not pod.is_deleted:
            return NO_NODE_FITS
        return f"never admitted: {self.kueue.explain_inadmissible(what) or 'quota was never free'}"
