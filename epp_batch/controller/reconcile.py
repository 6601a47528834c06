"""The next action for one unit: desired state and observed state in, one action out. Pure and level-triggered.

It depends on no earlier decision, so a lost or repeated action does no harm: the next call returns what is still
missing. Job names are unique, so creating twice creates once.
"""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.controller.desired import DesiredState, JobGoal
from epp_batch.controller.unit_status import UnitObjects, UnitStatus
from epp_batch.manifests.jobs import HASH_ANNOTATION

INADMISSIBLE_GRACE_SECONDS = 30.0
"""A unit that can never be admitted fails after this time: a queue may just have been created, or get more quota."""


class ObservedState(NamedTuple):
    """What the API server has of one unit."""

    objects: UnitObjects
    status: UnitStatus
    """Derived from `objects`."""
    status_seconds: float = 0.0
    """Seconds since the status last changed."""


class CreateJob(NamedTuple):
    """Create the unit's Job."""


class DeleteJob(NamedTuple):
    """Delete the Job with this uid; the next action creates another."""

    uid: str


class CollectResults(NamedTuple):
    """The Job has ended: collect the results and failures of its tasks."""

    status: UnitStatus


class Fail(NamedTuple):
    """The unit can never run: fail its tasks with this status, and delete the Job with this uid, if there is one."""

    status: UnitStatus
    uid: str | None


class Deactivate(NamedTuple):
    """Take the Workload of this name out of its queue (`spec.active: false`)."""

    workload_name: str


class CancelTasks(NamedTuple):
    """There is no Job and none will be created: cancel the unit's tasks."""


Action = CreateJob | DeleteJob | CollectResults | Fail | Deactivate | CancelTasks | None


def next_action(desired: DesiredState, observed: ObservedState) -> Action:
    """The next action towards the desired state; None if there is nothing to do but wait."""
    if desired.job is JobGoal.NOT_NEEDED:
        return None
    job, status = observed.objects.job, observed.status
    if job is None:
        match desired.job:
            case JobGoal.PRESENT:
                return CreateJob()
            case JobGoal.UNWANTED:
                return CancelTasks()
        return None
    uid = job.metadata.uid
    creates = desired.job in (JobGoal.PRESENT, JobGoal.HELD)
    match status.phase:
        case "succeeded" | "failed":
            return DeleteJob(uid) if desired.replace_ended else CollectResults(status)
        case "deactivated":
            if desired.replace_ended:
                return DeleteJob(uid)
            return Fail(status, uid if desired.delete_hopeless else None)
        # Kueue admits a Job as it is; one that still waits can be replaced without losing work.
        case "queued" | "unknown-to-kueue" | "paused" if creates and _has_other_spec(desired, observed):
            return DeleteJob(uid)
        case "queued" if creates and status.never_admissible and observed.status_seconds > INADMISSIBLE_GRACE_SECONDS:
            return Fail(status, uid)
        case "queued" if desired.job is JobGoal.HELD and observed.objects.workload is not None:
            return Deactivate(observed.objects.workload.metadata.name)
    return None


def _has_other_spec(desired: DesiredState, observed: ObservedState) -> bool:
    assert observed.objects.job is not None
    observed_hash = observed.objects.job.metadata.annotations.get(HASH_ANNOTATION, desired.spec_hash)
    return bool(desired.spec_hash) and observed_hash != desired.spec_hash
