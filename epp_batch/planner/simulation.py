"""A run in virtual time: Jobs are created, Kueue admits them, the scheduler places their pods, they run and end.

Deterministic: no randomness, no clock, equal input gives equal events. Events that a control plane would write a moment
apart have the same time here.
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

NO_NODE_FITS = "admitted, but no node has the resources its pod requests"


class SimulatedPod:
    """The pod of one admission of a job: pending, running, terminating or deleted."""

    def __init__(
        self, job: PlannedJob, workload: WorkloadInfo | None, node_selector: dict[str, str], attempt: int
    ) -> None:
        self.job = job
        self.workload = workload
        """None in a cluster without Kueue."""
        self.node_selector = node_selector
        """Node labels of the assigned flavors."""
        self.attempt = attempt
        self.equivalence_key = (*sorted(job.requests.items()), *sorted(node_selector.items()))
        """Equal for pods that fit on the same nodes."""
        self.sequence = 0
        """Position in the scheduler's queue."""
        self.placement: PodPlacement | None = None
        self.started_at = 0.0
        self.is_terminating = False
        """Evicted: it neither starts nor finishes any more, but holds its place until it is deleted."""
        self.is_deleted = False

    @property
    def is_active(self) -> bool:
        """Whether it may still start or finish."""
        return not self.is_deleted and not self.is_terminating


class Simulation:
    """One run; `run` returns its events in order of time.

    Jobs are created in their order, `submit_interval` apart, or at the times in `arrivals` (ascending).
    """

    def __init__(
        self, cluster_model: ClusterModel, jobs: Sequence[PlannedJob], arrivals: Sequence[float] | None = None
    ) -> None:
        self.cluster_model = cluster_model
        self.delays = cluster_model.delays
        self.kueue = KueueScheduler(cluster_model.kueue) if cluster_model.kueue else None
        self.pod_scheduler = PodScheduler(cluster_model.nodes)
        self.now = 0.0
        self.events: list[TimelineEvent] = []
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        """Heap of what happens when; equal times in the order of scheduling."""
        self._sequence = 0
        self._pending_pods: dict[tuple[object, ...], deque[SimulatedPod]] = {}
        """By equivalence key, each in order of arrival."""
        self._needs_scheduling = False
        """A pod was added or deleted since the scheduler last ran."""
        self._pods: dict[str, SimulatedPod] = {}
        """The last pod of each unit."""
        self._attempts: dict[str, int] = {}
        """Admissions by unit."""
        self._remaining_work = {job.unit: job.work_seconds for job in jobs}
        self._unfinished: dict[str, WorkloadInfo | PlannedJob] = {}
        """By unit; the job where it never became a Workload."""
        times = arrivals if arrivals is not None else [i * self.delays.submit_interval for i in range(len(jobs))]
        for at, job in zip(times, jobs, strict=True):
            self._schedule_action(at, lambda job=job: self._create_job(job))  # type: ignore[misc]

    def run(self) -> list[TimelineEvent]:
        """Runs until nothing more happens. A job that cannot run ends with `failed` and the reason as its detail."""
        while self._actions:
            self.now = self._actions[0][0]
            while self._actions and self._actions[0][0] <= self.now:
                heapq.heappop(self._actions)[2]()
            self._run_schedulers()
        for unit, unfinished in self._unfinished.items():
            self._record_event(unit, "failed", detail=self._explain_never_run(unfinished))
        return self.events

    def _schedule_action(self, delay: float, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._actions, (self.now + delay, self._sequence, action))

    def _record_event(self, unit: str, kind: EventKind, *, place: str = "", detail: str = "") -> None:
        attempt = self._attempts.get(unit, 0)
        event = TimelineEvent(at=self.now, unit=unit, kind=kind, place=place, detail=detail, attempt=attempt)
        self.events.append(event)

    def _create_job(self, job: PlannedJob) -> None:
        self._record_event(job.unit, "created")
        self._unfinished[job.unit] = job
        if self.kueue is None:
            self._attempts[job.unit] = 1
            self._create_pod(job, None, {})
            return
        workload = self.kueue.submit_job(job, self.now)
        if workload is not None:
            self._unfinished[job.unit] = workload
            self._record_event(job.unit, "queued")

    def _run_schedulers(self) -> None:
        """Kueue's cycles, then the pod scheduler's."""
        if self.kueue is not None:
            for decision in self.kueue.run_cycles(self.now):
                self._apply_decision(decision)
        self._schedule_pods()

    def _apply_decision(self, decision: AdmissionDecision) -> None:
        """Evicts the workload, or unsuspends its Job."""
        unit = decision.workload.name
        if decision.eviction_reason:
            self._evict_workload(decision.workload, decision.eviction_reason)
            return
        self._attempts[unit] = self._attempts.get(unit, 0) + 1
        self._record_event(unit, "reserved")
        self._record_event(unit, "admitted")
        assert self.cluster_model.kueue is not None
        node_selector: dict[str, str] = {}
        for flavor, _ in decision.workload.usage:
            node_selector |= self.cluster_model.kueue.flavor_node_labels.get(flavor, {})
        pod = self._create_pod(decision.workload.job, decision.workload, node_selector)
        wait_for_pods_ready = self.cluster_model.kueue.wait_for_pods_ready
        if wait_for_pods_ready is not None:
            self._schedule_action(
                wait_for_pods_ready.timeout, lambda: self._on_pods_ready_timeout(pod, wait_for_pods_ready)
            )

    def _create_pod(
        self, job: PlannedJob, workload: WorkloadInfo | None, node_selector: dict[str, str]
    ) -> SimulatedPod:
        pod = self._pods[job.unit] = SimulatedPod(job, workload, node_selector, self._attempts[job.unit])
        if self.delays.pod_startup:
            self._schedule_action(self.delays.pod_startup, lambda: self._enqueue_pod(pod) if pod.is_active else None)
        else:
            self._enqueue_pod(pod)
        return pod

    def _enqueue_pod(self, pod: SimulatedPod) -> None:
        self._sequence += 1
        pod.sequence = self._sequence
        self._pending_pods.setdefault(pod.equivalence_key, deque()).append(pod)
        self._needs_scheduling = True

    def _schedule_pods(self) -> None:
        """Tries the pending pods in order of arrival, as kube-scheduler's plugin PrioritySort orders equal priorities.

        A pod that does not fit blocks those with the same equivalence key, which would not fit either, and no others.
        The scheduler's back-off for unschedulable pods is left out.
        """
        if not self._needs_scheduling:
            return
        self._needs_scheduling = False
        queues = [queue for queue in self._pending_pods.values() if queue]
        while queues:
            queue = min(queues, key=lambda queue: queue[0].sequence)
            placement = self.pod_scheduler.schedule_pod(queue[0].job, queue[0].node_selector)
            if placement is not None:
                self._start_pod(queue.popleft(), placement)
            if placement is None or not queue:
                queues.remove(queue)

    def _start_pod(self, pod: SimulatedPod, placement: PodPlacement) -> None:
        pod.placement, pod.started_at = placement, self.now
        self._record_event(pod.job.unit, "running", place=str(placement))
        duration = pod.job.startup_seconds + self._remaining_work[pod.job.unit]
        self._schedule_action(duration, lambda: self._finish_pod(pod) if pod.is_active else None)

    def _finish_pod(self, pod: SimulatedPod) -> None:
        self._delete_pod(pod)
        self._record_event(pod.job.unit, "finished", place=str(pod.placement))
        del self._unfinished[pod.job.unit]
        workload = pod.workload
        if workload is not None:
            self._schedule_action(self.delays.job_completion, lambda: self._release_quota(workload, requeue=False))

    def _evict_workload(self, workload: WorkloadInfo, reason: str) -> None:
        workload.is_evicted = True
        pod = self._pods[workload.name]
        pod.is_terminating = True
        self._dequeue_pod(pod)
        self._record_event(workload.name, "evicted", place=str(pod.placement or ""), detail=reason)
        if pod.placement is not None and self.cluster_model.resume_after_preemption:
            work_done = max(0.0, self.now - pod.started_at - pod.job.startup_seconds)
            self._remaining_work[workload.name] = max(0.0, self._remaining_work[workload.name] - work_done)
        self._schedule_action(self.delays.pod_termination, lambda: self._complete_eviction(pod, workload))

    def _complete_eviction(self, pod: SimulatedPod, workload: WorkloadInfo) -> None:
        if not pod.is_deleted:
            self._delete_pod(pod)
            self._record_event(workload.name, "requeued")
            self._release_quota(workload, requeue=True)

    def _delete_pod(self, pod: SimulatedPod) -> None:
        pod.is_deleted = self._needs_scheduling = True
        if pod.placement is not None:
            self.pod_scheduler.remove_pod(pod.job, pod.placement)
        else:
            self._dequeue_pod(pod)

    def _dequeue_pod(self, pod: SimulatedPod) -> None:
        """Removes the pod from the scheduler's queue, if it is there."""
        queue = self._pending_pods.get(pod.equivalence_key)
        if queue is not None and pod in queue:
            queue.remove(pod)

    def _release_quota(self, workload: WorkloadInfo, *, requeue: bool) -> None:
        assert self.kueue is not None
        root = self.kueue.release_quota(workload, self.now, requeue=requeue)
        self._requeue_cohort_later(root)

    def _requeue_cohort_later(self, root: ResourceNode) -> None:
        kueue = self.kueue
        assert kueue is not None
        self._schedule_action(self.delays.requeue_batch_period, lambda: kueue.requeue_cohort_workloads(root, self.now))

    def _on_pods_ready_timeout(self, pod: SimulatedPod, config: WaitForPodsReady) -> None:
        """Evicts a workload whose pod was not placed in time, or deactivates it.

        Kueue: reconcileNotReadyTimeout, triggerDeactivation, UpdateRequeueState. Unlike Kueue, a workload that would
        not fit into an empty cluster is deactivated at once, since without a limit it would be requeued forever.
        """
        workload, kueue = pod.workload, self.kueue
        if not pod.is_active or pod.placement is not None:
            return
        assert workload is not None
        assert kueue is not None
        workload.requeue_count += 1
        if config.backoff_limit_count is not None and workload.requeue_count > config.backoff_limit_count:
            self._deactivate_workload(pod, workload, "deactivated: pods were not ready in time too often")
        elif not self.pod_scheduler.fits_empty_cluster(pod.job, pod.node_selector):
            self._deactivate_workload(pod, workload, NO_NODE_FITS)
        else:
            backoff = min(config.backoff_base_seconds * 2 ** (workload.requeue_count - 1), config.backoff_max_seconds)
            workload.requeue_at = self.now + backoff
            if config.requeues_by_eviction_time:
                workload.queue_order_timestamp = self.now
            root = kueue.resource_nodes[workload.cluster_queue].root()
            self._schedule_action(backoff, lambda: self._requeue_cohort_later(root))
            self._evict_workload(workload, "PodsReadyTimeout")

    def _deactivate_workload(self, pod: SimulatedPod, workload: WorkloadInfo, reason: str) -> None:
        """Fails the unit for good. Kueue sets `spec.active` to false."""
        self._record_event(workload.name, "evicted", detail="PodsReadyTimeout")
        self._record_event(workload.name, "failed", detail=reason)
        self._delete_pod(pod)
        del self._unfinished[workload.name]
        self._release_quota(workload, requeue=False)

    def _explain_never_run(self, unfinished: WorkloadInfo | PlannedJob) -> str:
        """Why a unit never ran, in the words of the object that is in the way."""
        if self.kueue is None:
            return "no node has the resources its pod requests"
        if isinstance(unfinished, PlannedJob):
            cluster_queue = self.kueue.kueue_objects.local_queues.get(unfinished.local_queue)
            if cluster_queue is None:
                return f"LocalQueue {unfinished.local_queue} does not exist"
            return f"ClusterQueue {cluster_queue} of LocalQueue {unfinished.local_queue} does not exist"
        pod = self._pods.get(unfinished.name)
        if pod is not None and not pod.is_deleted:
            return NO_NODE_FITS
        return f"never admitted: {self.kueue.explain_inadmissible(unfinished) or 'its quota was never free'}"
