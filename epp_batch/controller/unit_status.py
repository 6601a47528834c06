"""Status of one unit, derived from its Job, its Workload and its pods. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from epp_batch.kube.objects import ContainerState, Job, Pod, Workload
from epp_batch.manifests.jobs import CONTAINER_NAME

UnitPhase = Literal[
    "absent",  # no Job
    "deleting",  # the Job has a deletionTimestamp
    "unknown-to-kueue",  # a Job without a Workload
    "queued",  # the Workload is pending
    "reserved",  # QuotaReserved, not yet Admitted: admission checks are pending
    "admitted",  # the Job is unsuspended; no container runs yet
    "running",
    "paused",  # deactivated by a user
    "deactivated",  # deactivated by Kueue, which does not queue it again
    "succeeded",
    "failed",
]
ENDED_PHASES: tuple[UnitPhase, ...] = ("succeeded", "failed", "deactivated")
"""The Job will not run again."""
PAUSED_ANNOTATION = "epp-batch/paused"
"""On a Workload that `epp-batch pause` has deactivated: Kueue's own deactivation has no such mark."""

_NEVER_ADMISSIBLE_REASONS = ("ExceedsMaxQuota", "NoMatchingFlavor", "Misconfigured")
"""Reasons of QuotaReserved=False in Kueue releases that classify inadmissible workloads."""
_NEVER_ADMISSIBLE_MESSAGES = (
    "> maximum capacity",
    "unavailable in ClusterQueue",
    "doesn't exist",
    "terminating or missing",
)
"""Parts of the messages of Kueue's flavorassigner.go and workload_controller.go, for releases in which the reason is
only Pending or Inadmissible."""


class UnitObjects(NamedTuple):
    """The API objects of one unit. Workload and pods belong to this Job, not to an earlier one of the same name."""

    job: Job | None = None
    workload: Workload | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def newest_pod(self) -> Pod | None:
        return max(self.pods, key=_creation_order, default=None)


class UnitStatus(NamedTuple):
    """Phase of a unit; reason and message of the API object that keeps it there."""

    phase: UnitPhase
    reason: str = ""
    message: str = ""
    never_admissible: bool = False
    """The queue does not exist, or its quota can never cover the request: waiting does not help."""


def derive_unit_status(objects: UnitObjects) -> UnitStatus:
    """The Job shows whether the unit has ended, its Workload where it is in Kueue, its newest pod whether it runs."""
    job, workload = objects.job, objects.workload
    if job is None:
        return UnitStatus("absent")
    if (complete := job.true_condition("Complete")) is not None:
        return UnitStatus("succeeded", complete.reason, complete.message)
    if (failed := job.true_condition("Failed")) is not None:
        return UnitStatus("failed", failed.reason, failed.message)
    if job.metadata.deletion_timestamp is not None:
        return UnitStatus("deleting")
    if workload is None:
        return UnitStatus("unknown-to-kueue")
    if not workload.spec.active:
        return _inactive_status(workload)
    # Kueue sets QuotaReserved first, and Admitted once all admission checks are Ready.
    if workload.true_condition("Admitted") is not None:
        return _admitted_status(objects.newest_pod)
    if workload.true_condition("QuotaReserved") is not None:
        admitted = workload.find_condition("Admitted")
        return UnitStatus("reserved", *((admitted.reason, admitted.message) if admitted is not None else ()))
    return _queued_status(workload)


def worker_state(pod: Pod) -> ContainerState:
    """State of the pod's worker container."""
    return pod.container_state(CONTAINER_NAME)


def _inactive_status(workload: Workload) -> UnitStatus:
    """Deactivated by Kueue if it recorded a cause and PAUSED_ANNOTATION is missing, else paused by a user.

    Kueue (Reconcile in workload_controller.go) sets the cause as the reason of DeactivationTarget; when it evicts the
    Workload, it removes this condition and keeps the cause as the eviction's underlyingCause.
    """
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
    state = worker_state(pod)
    if state.running is not None:
        return UnitStatus("running")
    if state.waiting is not None:
        return UnitStatus("admitted", state.waiting.reason, state.waiting.message)
    scheduled = pod.find_condition("PodScheduled")
    if scheduled is not None and not scheduled.is_true:
        return UnitStatus("admitted", scheduled.reason, scheduled.message)
    return UnitStatus("admitted")


def _queued_status(workload: Workload) -> UnitStatus:
    pending = workload.find_condition("QuotaReserved")
    if pending is None:
        return UnitStatus("queued")
    never_admissible = pending.reason in _NEVER_ADMISSIBLE_REASONS or any(
        text in pending.message for text in _NEVER_ADMISSIBLE_MESSAGES
    )
    return UnitStatus("queued", pending.reason, pending.message, never_admissible)


def _creation_order(pod: Pod) -> tuple[float, str]:
    at = pod.metadata.creation_timestamp
    return (at.timestamp() if at is not None else 0.0, pod.metadata.name)
