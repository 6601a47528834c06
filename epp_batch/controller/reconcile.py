"""What to do about one unit: what should be, and what is, in; one action out. Pure and level-triggered.

It knows nothing of what was done before: asked again, it answers again, and the answer is right whatever was lost in
between. Names are unique, so an action that is done twice is done once.
"""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.controller.unit_status import Facts, State, state
from epp_batch.manifests.jobs import HASH_ANNOTATION

HOPELESS_SECONDS = 30.0
"""A queue that was made just now, or whose quota is being changed, gets so long to be seen."""


class Want(NamedTuple):
    """What one unit should come to."""

    open: bool
    """Some task has neither a transcript nor a failure that is final."""
    create: bool = True
    """Jobs may be made."""
    retry: bool = False
    """Its Job had ended before we came, without what is wanted, and is made again."""
    gone: bool = False
    """Its Job was there and somebody else deleted it before it ended."""
    hold: bool = False
    """The run is paused: what waits is to wait."""
    spec_hash: str = ""
    """Of the Job as it would be made now."""
    waited: float = 0.0
    """Seconds since its state last changed."""


class Create(NamedTuple):
    """Make its Job."""


class Delete(NamedTuple):
    """Delete the Job of this uid, so that another can be made."""

    uid: str


class Settle(NamedTuple):
    """Its Job has ended: see what it left."""

    state: State


class GiveUp(NamedTuple):
    """It can never run: say why; who makes Jobs deletes the one of this uid."""

    state: State
    uid: str


class Hold(NamedTuple):
    """Take its Workload, of this name, out of the queue."""

    workload: str


class Cancelled(NamedTuple):
    """Somebody does not want it."""


Action = Create | Delete | Settle | GiveUp | Hold | Cancelled | None


def action(want: Want, facts: Facts) -> Action:
    """The one next thing to do about a unit; None to wait."""
    if not want.open:
        return None
    now = state(facts)
    if facts.job is None:
        return _without_job(want)
    uid = facts.job.metadata.uid
    match now.phase:
        case "succeeded" | "failed":
            return Delete(uid) if want.retry else Settle(now)
        case "deactivated":
            return Delete(uid) if want.retry else GiveUp(now, uid)
        case "queued" | "unknown-to-kueue" | "paused" if want.create and _other(want, facts):
            return Delete(uid)
        case "queued" if want.create and now.hopeless and want.waited > HOPELESS_SECONDS:
            return GiveUp(now, uid)
        case "queued" if want.hold and facts.workload is not None:
            return Hold(facts.workload.metadata.name)
    return None


def _without_job(want: Want) -> Action:
    if want.gone:
        return Cancelled()
    return Create() if want.create and not want.hold else None


def _other(want: Want, facts: Facts) -> bool:
    """Its Job waits with other settings than it would be made with now."""
    assert facts.job is not None
    had = facts.job.metadata.annotations.get(HASH_ANNOTATION, want.spec_hash)
    return bool(want.spec_hash) and had != want.spec_hash
