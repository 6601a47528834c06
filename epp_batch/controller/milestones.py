"""Timeline events that the objects of one unit still prove, and when a pod's failure ends its Job. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from epp_batch.controller.unit_status import UnitObjects, worker_state
from epp_batch.kube.objects import Condition, Job, Pod, Workload
from epp_batch.kube.resources import JOB_TRACKING_FINALIZER
from epp_batch.manifests.jobs import FATAL_EXIT_CODES, IGNORED_EXIT_CODES, IGNORED_POD_CONDITION
from epp_batch.timeline import EventKind, TimelineEvent


def list_milestones(unit: str, objects: UnitObjects) -> list[TimelineEvent]:
    """Every event that the objects prove, in order of the API server's timestamps (whole seconds).

    Attempts are numbered by Kueue's count of evictions, so that an event of the second admission is not taken for one
    of the first, however late it is observed. An event whose condition or pod was replaced meanwhile is missing.
    """
    events = [
        *_job_milestones(unit, objects.job),
        *_workload_milestones(unit, objects.workload),
        *_pod_milestones(unit, objects),
    ]
    return sorted(events, key=lambda event: event.at)


def event_key(event: TimelineEvent) -> tuple[str, str, int, str]:
    """Identity of a milestone: equal for two observations of one event, different for two events.

    A Job is created once (by uid), a pod runs and fails once (by name); everything else happens once per attempt.
    """
    if event.kind in ("created", "running", "retried"):
        return event.unit, event.kind, 0, event.detail.split(":")[0]
    return event.unit, event.kind, event.attempt, ""


def admission_attempt(workload: Workload | None) -> int:
    """Number of the current admission, counted from 1: of the one that holds, else of the next one.

    Kueue resets Evicted when it reserves quota again (SetQuotaReservation in workload.go); until then the attempt is
    the one that was evicted, whether the workload is in its queue again (Requeued) or not.
    """
    if workload is None:
        return 1
    return max(1, workload.eviction_count + (workload.true_condition("Evicted") is None))


def describe_pod_failure(pod: Pod) -> str:
    """Why a pod failed: the disruption (eviction, lost node), else the exit code and reason, else the pod's status."""
    disruption = pod.true_condition(IGNORED_POD_CONDITION)
    if disruption is not None:
        return f"{disruption.reason}: {disruption.message}" if disruption.message else disruption.reason
    terminated = worker_state(pod).terminated
    if terminated is not None:
        reason = f" ({terminated.reason})" if terminated.reason not in ("", "Error", "Completed") else ""
        return f"exit code {terminated.exit_code}{reason}"
    return ": ".join(filter(None, (pod.status.reason, pod.status.message))) or "its pod failed"


def _job_milestones(unit: str, job: Job | None) -> Iterator[TimelineEvent]:
    if job is not None and job.metadata.creation_timestamp is not None:
        at = job.metadata.creation_timestamp.timestamp()
        yield TimelineEvent(at=at, unit=unit, kind="created", detail=job.metadata.uid)


def _workload_milestones(unit: str, workload: Workload | None) -> Iterator[TimelineEvent]:
    if workload is None:
        return
    if (created := workload.metadata.creation_timestamp) is not None:
        yield TimelineEvent(at=created.timestamp(), unit=unit, kind="queued")
    current = admission_attempt(workload)
    evicted = workload.find_condition("Evicted")
    # Earlier attempts left only their number in schedulingStats: the last transition of Evicted is an upper bound
    # for the time of their evictions.
    for past in range(1, current):
        if evicted is not None and evicted.last_transition_time is not None:
            yield _condition_event(unit, "evicted", evicted, past, _past_eviction_reason(workload))
    steps: tuple[tuple[str, EventKind], ...] = (("QuotaReserved", "reserved"), ("Admitted", "admitted"))
    for condition_type, kind in steps:
        if (condition := workload.true_condition(condition_type)) is not None:
            yield _condition_event(unit, kind, condition, current)
    if evicted is not None and evicted.is_true:
        yield _condition_event(unit, "evicted", evicted, current, _eviction_reason(workload, evicted))
        if (requeued := workload.true_condition("Requeued")) is not None:
            yield _condition_event(unit, "requeued", requeued, current, requeued.reason)


def _past_eviction_reason(workload: Workload) -> str:
    reasons = {eviction.reason for eviction in workload.status.scheduling_stats.evictions}
    return reasons.pop() if len(reasons) == 1 else "Evicted"


def _eviction_reason(workload: Workload, evicted: Condition) -> str:
    """Kueue's reason (`PodsReadyTimeout`); for a preemption with its kind (`Preempted: InClusterQueue`)."""
    preempted = workload.true_condition("Preempted")
    if evicted.reason == "Preempted" and preempted is not None:
        return f"Preempted: {preempted.reason}"
    return evicted.reason


def _pod_milestones(unit: str, objects: UnitObjects) -> Iterator[TimelineEvent]:
    attempt = admission_attempt(objects.workload)
    newest = objects.newest_pod
    for pod in objects.pods:
        name, state = pod.metadata.name, worker_state(pod)
        if state.started_at is not None:
            at, place = state.started_at.timestamp(), pod.spec.node_name
            yield TimelineEvent(at=at, unit=unit, kind="running", place=place, detail=name, attempt=attempt)
        if pod.status.phase != "Failed" or _was_deleted_by_suspend(pod) or (pod is newest and _ends_job(objects)):
            continue
        finished = state.terminated.finished_at if state.terminated is not None else None
        failed_at = finished or _disruption_time(pod) or state.started_at
        if failed_at is not None:
            detail = f"{name}: {describe_pod_failure(pod)}"
            yield TimelineEvent(at=failed_at.timestamp(), unit=unit, kind="retried", detail=detail, attempt=attempt)


def _ends_job(objects: UnitObjects) -> bool:
    """Whether the failure of the newest pod ends the Job, whose Failed condition may follow a moment later.

    Decides as the Job controller will, by the Job's podFailurePolicy (manifests.jobs): FailJob for fatal exit codes,
    Ignore for disruptions and SIGTERM, Count for all others; the Job fails when the count exceeds backoffLimit.
    """
    job, pod = objects.job, objects.newest_pod
    if job is None or job.is_finished or pod is None:
        return True
    if worker_state(pod).exit_code in FATAL_EXIT_CODES:
        return True
    return not _is_ignored_failure(pod) and _count_failures(job, objects.pods) > job.spec.backoff_limit


def _count_failures(job: Job, pods: tuple[Pod, ...]) -> int:
    """Failed pods that count against backoffLimit: never too few, and too many for a moment between two watch events.

    The Job controller counts a failed pod in three writes (trackJobStatusAndRemoveFinalizers in job_controller.go): it
    adds the uid to `uncountedTerminatedPods`, removes the pod's tracking finalizer, and replaces the uid by an
    increment of `status.failed`. A counted pod may have been deleted since, for example with its node.
    """
    failed = [pod for pod in pods if pod.status.phase == "Failed" and not _is_ignored_failure(pod)]
    tracked = {pod.metadata.uid for pod in failed if JOB_TRACKING_FINALIZER in pod.metadata.finalizers}
    uncounted = tracked | set(job.status.uncounted_terminated_pods.failed)
    return max(len(failed), job.status.failed + len(uncounted))


def _is_ignored_failure(pod: Pod) -> bool:
    """Whether the podFailurePolicy ignores it: the pod was disrupted, or the worker stopped on SIGTERM."""
    return pod.true_condition(IGNORED_POD_CONDITION) is not None or worker_state(pod).exit_code in IGNORED_EXIT_CODES


def _was_deleted_by_suspend(pod: Pod) -> bool:
    """Whether it was deleted because its Job was suspended: an eviction by Kueue, recorded as such, and no retry."""
    return pod.metadata.deletion_timestamp is not None and pod.true_condition(IGNORED_POD_CONDITION) is None


def _disruption_time(pod: Pod) -> datetime | None:
    disruption = pod.true_condition(IGNORED_POD_CONDITION)
    return disruption.last_transition_time if disruption is not None else None


def _condition_event(unit: str, kind: EventKind, condition: Condition, attempt: int, detail: str = "") -> TimelineEvent:
    at = condition.last_transition_time
    seconds = at.timestamp() if at is not None else 0.0
    return TimelineEvent(at=seconds, unit=unit, kind=kind, detail=detail, attempt=attempt)
