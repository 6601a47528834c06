"""What to do about one unit: what should be, and what is, in; one action out. Pure and level-triggered.

It knows nothing of what was done before: asked again, it answers again, and the answer is right whatever was lost in
between. Names are unique, so an action that is done twice is done once.
"""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.controller.unit_status import UnitObjects, UnitStatus, derive_unit_status
from epp_batch.manifests.jobs import HASH_ANNOTATION

INADMISSIBLE_GRACE_SECONDS = 30.0
"""A queue that was made just now, or whose quota is being changed, gets so long to be seen."""


class DesiredState(NamedTuple):
    """What one unit should come to."""

    has_open_tasks: bool
    """Some task has neither a transcript nor a failure that is final."""
    may_create: bool = True
    """Jobs may be made."""
    recreate: bool = False
    """Its Job had ended before we came, without what is wanted, and is made again."""
    deleted_externally: bool = False
    """Its Job was there and somebody else deleted it before it ended."""
    paused: bool = False
    """The run is paused: what waits is to wait."""
    spec_hash: str = ""
    """Of the Job as it would be made now."""
    state_seconds: float = 0.0
    """Seconds since its state last changed."""


class CreateJob(NamedTuple):
    """Make its Job."""


class DeleteJob(NamedTuple):
    """Delete the Job of this uid, so that another can be made."""

    uid: str


class CollectResults(NamedTuple):
    """Its Job has ended: see what it left."""

    status: UnitStatus


class Fail(NamedTuple):
    """It can never run: say why; who makes Jobs deletes the one of this uid."""

    status: UnitStatus
    uid: str


class Deactivate(NamedTuple):
    """Take its Workload, of this name, out of the queue."""

    workload_name: str


class JobDeletedExternally(NamedTuple):
    """Somebody does not want it."""


Action = CreateJob | DeleteJob | CollectResults | Fail | Deactivate | JobDeletedExternally | None


def next_action(want: DesiredState, facts: UnitObjects) -> Action:
    """The one next thing to do about a unit; None to wait."""
    if not want.has_open_tasks:
        return None
    now = derive_unit_status(facts)
    if facts.job is None:
        return _action_without_job(want)
    uid = facts.job.metadata.uid
    match now.phase:
        case "succeeded" | "failed":
            return DeleteJob(uid) if want.recreate else CollectResults(now)
        case "deactivated":
            return DeleteJob(uid) if want.recreate else Fail(now, uid)
        case "queued" | "unknown-to-kueue" | "paused" if want.may_create and _has_other_spec(want, facts):
            return DeleteJob(uid)
        case "queued" if want.may_create and now.never_admissible and want.state_seconds > INADMISSIBLE_GRACE_SECONDS:
            return Fail(now, uid)
        case "queued" if want.paused and facts.workload is not None:
            return Deactivate(facts.workload.metadata.name)
    return None


def _action_without_job(want: DesiredState) -> Action:
    if want.deleted_externally:
        return JobDeletedExternally()
    return CreateJob() if want.may_create and not want.paused else None


def _has_other_spec(want: DesiredState, facts: UnitObjects) -> bool:
    """Its Job waits with other settings than it would be made with now."""
    assert facts.job is not None
    had = facts.job.metadata.annotations.get(HASH_ANNOTATION, want.spec_hash)
    return bool(want.spec_hash) and had != want.spec_hash
