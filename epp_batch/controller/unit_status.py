"""What the objects of one unit say: its state now, and the milestones they still show. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from epp_batch.kube.objects import Condition, Job, Pod, Workload
from epp_batch.kube.resources import PAUSED_ANNOTATION, TRACKING_FINALIZER
from epp_batch.manifests.jobs import FATAL_CODES, FORGIVEN_CODES, FORGIVEN_CONDITION
from epp_batch.timeline import Event, EventKind

Phase = Literal[
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
_NEVER = ("> maximum capacity", "unavailable in ClusterQueue", "doesn't exist", "terminating or missing")
_NEVER_REASONS = ("ExceedsMaxQuota", "NoMatchingFlavor", "Misconfigured")


class Facts(NamedTuple):
    """Everything the cluster has about one unit."""

    job: Job | None = None
    workload: Workload | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def pod(self) -> Pod | None:
        """The newest pod."""
        return max(self.pods, key=_birth, default=None)


class State(NamedTuple):
    """Where a unit is, and why it does not go on."""

    phase: Phase
    reason: str = ""
    message: str = ""
    hopeless: bool = False
    """Waiting will not help: the queue does not exist, or can never hold the request."""


def state(facts: Facts) -> State:
    """One look at one unit. The Job decides when it has ended, its Workload while it waits, its pod while it runs."""
    job, workload = facts.job, facts.workload
    if job is None:
        return State("absent")
    if (done := job.condition("Complete")) is not None:
        return State("succeeded", done.reason, done.message)
    if (failed := job.condition("Failed")) is not None:
        return State("failed", failed.reason, failed.message)
    if job.metadata.deletion_timestamp is not None:
        return State("deleting")
    if workload is None:
        return State("unknown-to-kueue")
    if not workload.spec.active:
        return _inactive(workload)
    if workload.condition("Admitted") is not None:
        return _admitted(facts.pod)
    if workload.condition("QuotaReserved") is not None:
        return _reserved(workload)
    return _queued(workload)


def _inactive(workload: Workload) -> State:
    """Kueue says why when it was Kueue; what a person stopped can be started again."""
    causes = [e.underlying_cause for e in workload.status.scheduling_stats.evictions if e.reason == "Deactivated"]
    evicted = workload.find("Evicted")
    message = evicted.message if evicted is not None else ""
    target = workload.condition("DeactivationTarget")
    cause = target.reason if target is not None else next(filter(None, causes), "")
    if cause and PAUSED_ANNOTATION not in workload.metadata.annotations:
        return State("deactivated", cause, message or (target.message if target is not None else ""))
    return State("paused", "Deactivated", message)


def _admitted(pod: Pod | None) -> State:
    if pod is None or pod.ended or pod.metadata.deletion_timestamp is not None:
        return State("admitted")
    if pod.container.running is not None:
        return State("running")
    if (waiting := pod.container.waiting) is not None:
        return State("admitted", waiting.reason, waiting.message)
    scheduled = pod.find("PodScheduled")
    if scheduled is not None and not scheduled.true:
        return State("admitted", scheduled.reason, scheduled.message)
    return State("admitted")


def _reserved(workload: Workload) -> State:
    admitted = workload.find("Admitted")
    return State("reserved", *((admitted.reason, admitted.message) if admitted is not None else ()))


def _queued(workload: Workload) -> State:
    waiting = workload.find("QuotaReserved")
    if waiting is None:
        return State("queued")
    never = waiting.reason in _NEVER_REASONS or any(text in waiting.message for text in _NEVER)
    return State("queued", waiting.reason, waiting.message, never)


# -- milestones -----------------------------------------------------------------------------------------------


def milestones(unit: str, facts: Facts) -> list[Event]:
    """Every event that the objects still tell of, in order of the server's clock (whole seconds).

    Admissions are counted by evictions, so an event of the second attempt is not taken for one of the first, whoever
    looks and however late. What ended and was overwritten meanwhile is missing here.
    """
    events = [*_of_job(unit, facts.job), *_of_workload(unit, facts.workload), *_of_pods(unit, facts)]
    return sorted(events, key=lambda event: event.at)


def key(event: Event) -> tuple[str, str, int, str]:
    """Equal for two tellings of one milestone: a Job is created once, a pod runs once, the rest is once an attempt."""
    if event.kind in ("created", "running", "retried"):
        return event.unit, event.kind, 0, event.detail.split(":")[0]
    return event.unit, event.kind, event.attempt, ""


def _of_job(unit: str, job: Job | None) -> Iterator[Event]:
    if job is not None and job.metadata.creation_timestamp is not None:
        at = job.metadata.creation_timestamp.timestamp()
        yield Event(at=at, unit=unit, kind="created", detail=job.metadata.uid)


def _of_workload(unit: str, workload: Workload | None) -> Iterator[Event]:
    if workload is None:
        return
    if (born := workload.metadata.creation_timestamp) is not None:
        yield Event(at=born.timestamp(), unit=unit, kind="queued")
    now = attempt(workload)
    evicted = workload.find("Evicted")
    for past in range(1, now):  # taken away and given back since: when it was taken is known no better than this
        if evicted is not None and evicted.last_transition_time is not None:
            yield _told(unit, "evicted", evicted, past, _past_reason(workload))
    steps: tuple[tuple[str, EventKind], ...] = (("QuotaReserved", "reserved"), ("Admitted", "admitted"))
    for kind, name in steps:
        if (condition := workload.condition(kind)) is not None:
            yield _told(unit, name, condition, now)
    if evicted is not None and evicted.true:
        yield _told(unit, "evicted", evicted, now, _why_evicted(workload, evicted))
        if (requeued := workload.condition("Requeued")) is not None:
            yield _told(unit, "requeued", requeued, now, requeued.reason)


def attempt(workload: Workload | None) -> int:
    """Which admission this is, or will be, or was until the quota was taken away just now; counted from 1."""
    if workload is None:
        return 1
    return max(1, workload.evictions + (workload.condition("Evicted") is None))


def _past_reason(workload: Workload) -> str:
    reasons = {eviction.reason for eviction in workload.status.scheduling_stats.evictions}
    return reasons.pop() if len(reasons) == 1 else "Evicted"


def _why_evicted(workload: Workload, evicted: Condition) -> str:
    """`Preempted: InClusterQueue`, `PodsReadyTimeout`, …"""
    preempted = workload.condition("Preempted")
    if evicted.reason == "Preempted" and preempted is not None:
        return f"Preempted: {preempted.reason}"
    return evicted.reason


def _of_pods(unit: str, facts: Facts) -> Iterator[Event]:
    now = attempt(facts.workload)
    newest = facts.pod
    for pod in facts.pods:
        name = pod.metadata.name
        if (began := pod.ran) is not None:
            at, place = began.timestamp(), pod.spec.node_name
            yield Event(at=at, unit=unit, kind="running", place=place, detail=name, attempt=now)
        if pod.status.phase == "Failed" and not _stopped(pod) and not (pod is newest and _last(facts)):
            ended = pod.container.terminated
            died = (ended.finished_at if ended is not None else None) or _disrupted_at(pod) or began
            if died is not None:
                detail = f"{name}: {why_pod_failed(pod)}"
                yield Event(at=died.timestamp(), unit=unit, kind="retried", detail=detail, attempt=now)


def why_pod_failed(pod: Pod) -> str:
    """In words: evicted, deleted with its node, killed for memory, or its exit code."""
    disrupted = pod.condition(FORGIVEN_CONDITION)
    if disrupted is not None:
        return f"{disrupted.reason}: {disrupted.message}" if disrupted.message else disrupted.reason
    ended = pod.container.terminated
    if ended is not None:
        reason = f" ({ended.reason})" if ended.reason not in ("", "Error", "Completed") else ""
        return f"exit code {ended.exit_code}{reason}"
    return ": ".join(filter(None, (pod.status.reason, pod.status.message))) or "its pod failed"


def _last(facts: Facts) -> bool:
    """Whether the newest pod's failure ends the Job, which may be a moment behind in saying so."""
    job, pod = facts.job, facts.pod
    if job is None or job.ended or pod is None:
        return True
    if pod.exit_code in FATAL_CODES:
        return True
    return not _forgiven(pod) and _failures(job, facts.pods) > job.spec.backoff_limit


def _failures(job: Job, pods: tuple[Pod, ...]) -> int:
    """How many count against the Job's backoffLimit; one too many, never too few, while objects are of two moments.

    The Job controller counts a failed pod in three writes: it lists the uid as uncounted, takes its finalizer from the
    pod, and moves the uid into `failed`. Pods that are counted may be gone, with their node for one.
    """
    failed = [pod for pod in pods if pod.status.phase == "Failed" and not _forgiven(pod)]
    tracked = {pod.metadata.uid for pod in failed if TRACKING_FINALIZER in pod.metadata.finalizers}
    uncounted = tracked | set(job.status.uncounted_terminated_pods.failed)
    return max(len(failed), job.status.failed + len(uncounted))


def _forgiven(pod: Pod) -> bool:
    """Whether the Job's podFailurePolicy ignores its failure: a node's or Kueue's doing."""
    return pod.condition(FORGIVEN_CONDITION) is not None or pod.exit_code in FORGIVEN_CODES


def _stopped(pod: Pod) -> bool:
    """Deleted because its Job was suspended: an eviction by Kueue, told as that."""
    return pod.metadata.deletion_timestamp is not None and pod.condition(FORGIVEN_CONDITION) is None


def _disrupted_at(pod: Pod) -> datetime | None:
    disrupted = pod.condition(FORGIVEN_CONDITION)
    return disrupted.last_transition_time if disrupted is not None else None


def _told(unit: str, kind: EventKind, condition: Condition, attempt: int, detail: str = "") -> Event:
    at = condition.last_transition_time
    return Event(at=at.timestamp() if at is not None else 0.0, unit=unit, kind=kind, detail=detail, attempt=attempt)


def _birth(pod: Pod) -> tuple[float, str]:
    at = pod.metadata.creation_timestamp
    return (at.timestamp() if at is not None else 0.0, pod.metadata.name)
