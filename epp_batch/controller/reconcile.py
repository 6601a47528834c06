"""The next action for one unit: desired state and observed state in, one action out. Pure and level-triggered.

The action depends on no earlier decision, so a lost or repeated one does no harm: the next call returns what is still
to be done. Job names are unique and deletions name a uid, so a repeated creation or deletion has no effect.
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
    """Create the unit's Job: it has none."""


class DeleteJob(NamedTuple):
    """Delete the Job with this uid, to replace it: once it is deleted, the next action is CreateJob."""

    uid: str


class CollectResults(NamedTuple):
    """The Job has ended: collect the results and failures of its tasks."""

    status: UnitStatus


class Fail(NamedTuple):
    """The unit can never run: fail its tasks with this status, and delete its Job."""

    status: UnitStatus
    uid: str | None
    """Of the Job to delete; None if this driver deletes no Jobs."""


class Deactivate(NamedTuple):
    """Take the Workload of this name out of its queue (`spec.active: false`): the run is paused."""

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
        return None  # HELD: created after `resume`. MANAGED_ELSEWHERE: created by the other driver.
    uid = job.metadata.uid
    creates = desired.job in (JobGoal.PRESENT, JobGoal.HELD)
    match status.phase:
        # The Job controller set Complete or Failed: whatever the Job was to leave is there, or never will be.
        case "succeeded" | "failed":
            return DeleteJob(uid) if desired.replace_ended else CollectResults(status)
        # Kueue evicted the Workload and does not queue it again: for example, its maximum execution time is over.
        case "deactivated":
            if desired.replace_ended:
                return DeleteJob(uid)
            return Fail(status, uid if desired.delete_deactivated else None)
        # The flags have changed since the Job was created (queue, image, accelerator). A Job's pod template is
        # immutable but for scheduling directives, so the Job is replaced. It holds no quota: no pod is stopped by that.
        case "queued" | "unknown-to-kueue" | "paused" if creates and _has_other_spec(desired, observed):
            return DeleteJob(uid)
        # Without this, a run would wait forever for a queue that does not exist. `watch` waits: it deletes no Jobs, and
        # the queue may still be created.
        case "queued" if creates and status.never_admissible and observed.status_seconds > INADMISSIBLE_GRACE_SECONDS:
            return Fail(status, uid)
        # `epp-batch pause` deactivates the Workloads that it finds queued; the driver those that are created or evicted
        # later.
        case "queued" if desired.job is JobGoal.HELD and observed.objects.workload is not None:
            return Deactivate(observed.objects.workload.metadata.name)
    # deleting: its end is observed first. reserved, admitted, running: a Job that has quota is never touched.
    # paused: `resume` activates it. queued: waits for Kueue.
    return None


def _has_other_spec(desired: DesiredState, observed: ObservedState) -> bool:
    """Whether the Job was created from another spec. A Job without the annotation counts as having the desired one."""
    assert observed.objects.job is not None
    observed_hash = observed.objects.job.metadata.annotations.get(HASH_ANNOTATION, desired.spec_hash)
    return bool(desired.spec_hash) and observed_hash != desired.spec_hash
