"""What the objects of one unit say: its state now, and the milestones they still show. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from epp_batch.kube.objects import Condition, Job, Pod, Workload
from epp_batch.kube.resources import JOB_TRACKING_FINALIZER, PAUSED_ANNOTATION
from epp_batch.manifests.jobs import FATAL_EXIT_CODES, IGNORED_EXIT_CODES, IGNORED_POD_CONDITION
from epp_batch.timeline import EventKind, TimelineEvent

UnitPhase = Literal[
    "absent",  # no Job
    "deleting",  # the Job is on its way out
    "unknown-to-kueue",  # a Job without Workload
    "queued",
    "reserved",
    "admitted",  # unsuspended; no container runs yet
    "running",
    "paused",  # taken out of its queue by a person
    "deactivated",  # taken out of its queue by Kueue, for good
    "succeeded",
    "failed",
]
_NEVER_ADMISSIBLE_MESSAGES = (
    "> maximum capacity",
    "unavailable in ClusterQueue",
    "doesn't exist",
    "terminating or missing",
)
_NEVER_ADMISSIBLE_REASONS = ("ExceedsMaxQuota", "NoMatchingFlavor", "Misconfigured")


class UnitObjects(NamedTuple):
    """Everything the cluster has about one unit."""

    job: Job | None = None
    workload: Workload | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def newest_pod(self) -> Pod | None:
        """The newest pod."""
        return max(self.pods, key=_creation_order, default=None)


class UnitStatus(NamedTuple):
    """Where a unit is, and why it does not go on."""

    phase: UnitPhase
    reason: str = ""
    message: str = ""
    never_admissible: bool = False
    """Waiting will not help: the queue does not exist, or can never hold the request."""


def derive_unit_status(facts: UnitObjects) -> UnitStatus:
    """One look at one unit. The Job decides when it has ended, its Workload while it waits, its pod while it runs."""
    job, workload = facts.job, facts.workload
    if job is None:
        return UnitStatus("absent")
    if (done := job.true_condition("Complete")) is not None:
        return UnitStatus("succeeded", done.reason, done.message)
    if (failed := job.true_condition("Failed")) is not None:
        return UnitStatus("failed", failed.reason, failed.message)
    if job.metadata.deletion_timestamp is not None:
        return UnitStatus("deleting")
    if workload is None:
        return UnitStatus("unknown-to-kueue")
    if not workload.spec.active:
        return _inactive_status(workload)
    if workload.true_condition("Admitted") is not None:
        return _admitted_status(facts.newest_pod)
    if workload.true_condition("QuotaReserved") is not None:
        return _reserved_status(workload)
    return _queued_status(workload)


def _inactive_status(workload: Workload) -> UnitStatus:
    """Kueue says why when it was Kueue; what a person stopped can be started again."""
    causes = [e.underlying_cause for e in workload.status.scheduling_stats.evictions if e.reason == "Deactivated"]
    evicted = workload.find_condition("Evicted")
    message = evicted.message if evicted is not None else ""
    target = workload.true_condition("DeactivationTarget")
    cause = target.reason if target is not None else next(filter(None, causes), "")
    if cause and PAUSED_ANNOTATION not in workload.metadata.annotations:
        return UnitStatus("deactivated", cause, message or (target.message if target is not None else ""))
    return UnitStatus("paused", "Deactivated", message)


def _admitted_status(pod: Pod | None) -> UnitStatus:
    if pod is None or pod.is_terminal or pod.metadata.deletion_timestamp is not None:
        return UnitStatus("admitted")
    if pod.container_state.running is not None:
        return UnitStatus("running")
    if (waiting := pod.container_state.waiting) is not None:
        return UnitStatus("admitted", waiting.reason, waiting.message)
    scheduled = pod.find_condition("PodScheduled")
    if scheduled is not None and not scheduled.is_true:
        return UnitStatus("admitted", scheduled.reason, scheduled.message)
    return UnitStatus("admitted")


def _reserved_status(workload: Workload) -> UnitStatus:
    admitted = workload.find_condition("Admitted")
    return UnitStatus("reserved", *((admitted.reason, admitted.message) if admitted is not None else ()))


def _queued_status(workload: Workload) -> UnitStatus:
    waiting = workload.find_condition("QuotaReserved")
    if waiting is None:
        return UnitStatus("queued")
    never = waiting.reason in _NEVER_ADMISSIBLE_REASONS or any(
        text in waiting.message for text in _NEVER_ADMISSIBLE_MESSAGES
    )
    return UnitStatus("queued", waiting.reason, waiting.message, never)


# -- milestones -----------------------------------------------------------------------------------------------


def list_milestones(unit: str, facts: UnitObjects) -> list[TimelineEvent]:
    """Every event that the objects still tell of, in order of the server's clock (whole seconds).

    Admissions are counted by evictions, so an event of the second attempt is not taken for one of the first, whoever
    looks and however late. What ended and was overwritten meanwhile is missing here.
    """
    events = [
        *_job_milestones(unit, facts.job),
        *_workload_milestones(unit, facts.workload),
        *_pod_milestones(unit, facts),
    ]
    return sorted(events, key=lambda event: event.at)


def event_key(event: TimelineEvent) -> tuple[str, str, int, str]:
    """Equal for two tellings of one milestone: a Job is created once, a pod runs once, the rest is once an attempt."""
    if event.kind in ("created", "running", "retried"):
        return event.unit, event.kind, 0, event.detail.split(":")[0]
    return event.unit, event.kind, event.attempt, ""


def _job_milestones(unit: str, job: Job | None) -> Iterator[TimelineEvent]:
    if job is not None and job.metadata.creation_timestamp is not None:
        at = job.metadata.creation_timestamp.timestamp()
        yield TimelineEvent(at=at, unit=unit, kind="created", detail=job.metadata.uid)


def _workload_milestones(unit: str, workload: Workload | None) -> Iterator[TimelineEvent]:
    if workload is None:
        return
    if (born := workload.metadata.creation_timestamp) is not None:
        yield TimelineEvent(at=born.timestamp(), unit=unit, kind="queued")
    now = admission_attempt(workload)
    evicted = workload.find_condition("Evicted")
    for past in range(1, now):  # taken away and given back since: when it was taken is known no better than this
        if evicted is not None and evicted.last_transition_time is not None:
            yield _condition_event(unit, "evicted", evicted, past, _past_eviction_reason(workload))
    steps: tuple[tuple[str, EventKind], ...] = (("QuotaReserved", "reserved"), ("Admitted", "admitted"))
    for kind, name in steps:
        if (condition := workload.true_condition(kind)) is not None:
            yield _condition_event(unit, name, condition, now)
    if evicted is not None and evicted.is_true:
        yield _condition_event(unit, "evicted", evicted, now, _eviction_reason(workload, evicted))
        if (requeued := workload.true_condition("Requeued")) is not None:
            yield _condition_event(unit, "requeued", requeued, now, requeued.reason)


def admission_attempt(workload: Workload | None) -> int:
    """Which admission this is, or will be, or was until the quota was taken away just now; counted from 1."""
    if workload is None:
        return 1
    return max(1, workload.eviction_count + (workload.true_condition("Evicted") is None))


def _past_eviction_reason(workload: Workload) -> str:
    reasons = {eviction.reason for eviction in workload.status.scheduling_stats.evictions}
    return reasons.pop() if len(reasons) == 1 else "Evicted"


def _eviction_reason(workload: Workload, evicted: Condition) -> str:
    """`Preempted: InClusterQueue`, `PodsReadyTimeout`, …"""
    preempted = workload.true_condition("Preempted")
    if evicted.reason == "Preempted" and preempted is not None:
        return f"Preempted: {preempted.reason}"
    return evicted.reason


def _pod_milestones(unit: str, facts: UnitObjects) -> Iterator[TimelineEvent]:
    now = admission_attempt(facts.workload)
    newest = facts.newest_pod
    for pod in facts.pods:
        name = pod.metadata.name
        if (began := pod.started_at) is not None:
            at, place = began.timestamp(), pod.spec.node_name
            yield TimelineEvent(at=at, unit=unit, kind="running", place=place, detail=name, attempt=now)
        if (
            pod.status.phase == "Failed"
            and not _was_deleted_by_suspend(pod)
            and not (pod is newest and _is_final_failure(facts))
        ):
            ended = pod.container_state.terminated
            died = (ended.finished_at if ended is not None else None) or _disruption_time(pod) or began
            if died is not None:
                detail = f"{name}: {describe_pod_failure(pod)}"
                yield TimelineEvent(at=died.timestamp(), unit=unit, kind="retried", detail=detail, attempt=now)


def describe_pod_failure(pod: Pod) -> str:
    """In words: evicted, deleted with its node, killed for memory, or its exit code."""
    disrupted = pod.true_condition(IGNORED_POD_CONDITION)
    if disrupted is not None:
        return f"{disrupted.reason}: {disrupted.message}" if disrupted.message else disrupted.reason
    ended = pod.container_state.terminated
    if ended is not None:
        reason = f" ({ended.reason})" if ended.reason not in ("", "Error", "Completed") else ""
        return f"exit code {ended.exit_code}{reason}"
    return ": ".join(filter(None, (pod.status.reason, pod.status.message))) or "its pod failed"


def _is_final_failure(facts: UnitObjects) -> bool:
    """Whether the newest pod's failure ends the Job, which may be a moment behind in saying so."""
    job, pod = facts.job, facts.newest_pod
    if job is None or job.is_finished or pod is None:
        return True
    if pod.exit_code in FATAL_EXIT_CODES:
        return True
    return not _is_ignored_failure(pod) and _count_failures(job, facts.pods) > job.spec.backoff_limit


def _count_failures(job: Job, pods: tuple[Pod, ...]) -> int:
    """How many count against the Job's backoffLimit; one too many, never too few, while objects are of two moments.

    The Job controller counts a failed pod in three writes: it lists the uid as uncounted, takes its finalizer from the
    pod, and moves the uid into `failed`. Pods that are counted may be gone, with their node for one.
    """
    failed = [pod for pod in pods if pod.status.phase == "Failed" and not _is_ignored_failure(pod)]
    tracked = {pod.metadata.uid for pod in failed if JOB_TRACKING_FINALIZER in pod.metadata.finalizers}
    uncounted = tracked | set(job.status.uncounted_terminated_pods.failed)
    return max(len(failed), job.status.failed + len(uncounted))


def _is_ignored_failure(pod: Pod) -> bool:
    """Whether the Job's podFailurePolicy ignores its failure: a node's or Kueue's doing."""
    return pod.true_condition(IGNORED_POD_CONDITION) is not None or pod.exit_code in IGNORED_EXIT_CODES


def _was_deleted_by_suspend(pod: Pod) -> bool:
    """Deleted because its Job was suspended: an eviction by Kueue, told as that."""
    return pod.metadata.deletion_timestamp is not None and pod.true_condition(IGNORED_POD_CONDITION) is None


def _disruption_time(pod: Pod) -> datetime | None:
    disrupted = pod.true_condition(IGNORED_POD_CONDITION)
    return disrupted.last_transition_time if disrupted is not None else None


def _condition_event(unit: str, kind: EventKind, condition: Condition, attempt: int, detail: str = "") -> TimelineEvent:
    at = condition.last_transition_time
    return TimelineEvent(
        at=at.timestamp() if at is not None else 0.0, unit=unit, kind=kind, detail=detail, attempt=attempt
    )


def _creation_order(pod: Pod) -> tuple[float, str]:
    at = pod.metadata.creation_timestamp
    return (at.timestamp() if at is not None else 0.0, pod.metadata.name)
