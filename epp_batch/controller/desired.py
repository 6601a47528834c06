"""What the Job of one unit should be. Pure: the driver's intent and facts about the unit in, a `DesiredState` out.

`reconcile.next_action` compares it with what the API server has. Whether a unit of the run gets, keeps or loses its Job
is decided by these two functions only. A user's orders are carried out without them: `cancel` and `submit --force`
delete Jobs, and `submit` deletes those of a previous submission whose units the run no longer has.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from epp_batch.controller.control import ControlState
from epp_batch.controller.task_results import RESULT_FILE_GRACE_SECONDS
from epp_batch.controller.unit_status import UnitPhase


class RunIntent(NamedTuple):
    """What the driver of a run is to do; the same for all units at one moment."""

    creates_jobs: bool
    """`submit`: Jobs are created, replaced and deleted. `watch`: no Job is written, outcomes are only recorded."""
    owns_folder: bool = True
    """This driver holds the folder's lock: no other driver of the run is alive, and none will create Jobs meanwhile."""
    retry_failed: bool = False
    """`--retry-failed`: Jobs that had failed before are replaced."""
    control: ControlState = "go"
    """What `pause`, `resume` and `cancel` have asked for."""


class UnitFacts(NamedTuple):
    """Facts about one unit besides its API objects."""

    has_open_tasks: bool
    """Some task is neither done nor failed nor cancelled."""
    phase: UnitPhase
    phase_seconds: float = 0.0
    """Seconds since the unit's status last changed."""
    ended_before_start: bool = False
    """The present Job had ended or was deactivated when this driver first observed it."""
    has_damaged_transcript: bool = False
    """The folder has a result of an open task, but not all of its files."""
    deleted_externally: bool = False
    """Its Job was deleted before it ended, and not by this driver; there is no other Job since."""
    spec_hash: str = ""
    """HASH_ANNOTATION of the Job as this driver would create it now; empty if it creates none."""


class JobGoal(Enum):
    """What the Job of a unit should be."""

    NOT_NEEDED = "not needed"  # all tasks have ended: an existing Job stays as it is, until its TTL
    PRESENT = "present"  # there should be a Job with the current spec, queued or running or ended
    HELD = "held"  # as PRESENT, but the run is paused: no Job is created, and a queued one leaves its queue
    UNWANTED = "unwanted"  # no Job will be created: without one, the unit's tasks are cancelled
    MANAGED_ELSEWHERE = "managed elsewhere"  # another driver creates Jobs: a missing one is that driver's to create


class DesiredState(NamedTuple):
    """Goal for one unit's Job."""

    job: JobGoal
    replace_ended: bool = False
    """An ended or deactivated Job is deleted, so that a new one can be created."""
    delete_deactivated: bool = False
    """A Job that Kueue has deactivated for good is deleted when its tasks are failed."""
    spec_hash: str = ""
    """Of the spec that a Job should have; one that still waits with another is replaced. Empty: any spec will do."""


def derive_desired_state(intent: RunIntent, unit: UnitFacts) -> DesiredState:
    """The goal for one unit's Job: the first of these cases that applies."""
    # Every task has a transcript, a final failure or was cancelled. The Job stays for its ttlSecondsAfterFinished, so
    # that the next driver can still read its times.
    if not unit.has_open_tasks:
        return DesiredState(JobGoal.NOT_NEEDED)

    # A user deleted the Job while it was waiting or running (`kubectl delete`): taken as a request to cancel.
    # The deletion of a Job that had ended is none: the TTL controller deletes such Jobs, too.
    if unit.deleted_externally:
        return DesiredState(JobGoal.UNWANTED, delete_deactivated=intent.creates_jobs)

    # `watch`. Beside a living `submit`, that driver creates the missing Jobs; without one, none will ever be created.
    if not intent.creates_jobs:
        return DesiredState(JobGoal.UNWANTED if intent.owns_folder else JobGoal.MANAGED_ELSEWHERE)

    # `epp-batch cancel` deletes the Jobs itself; this driver must not create them again.
    if intent.control == "cancelled":
        return DesiredState(JobGoal.UNWANTED, delete_deactivated=True)

    # `submit`, while the run is paused or not.
    return DesiredState(
        JobGoal.HELD if intent.control == "paused" else JobGoal.PRESENT,
        replace_ended=unit.ended_before_start and _should_run_again(intent, unit),
        delete_deactivated=True,
        spec_hash=unit.spec_hash,
    )


def _should_run_again(intent: RunIntent, unit: UnitFacts) -> bool:
    """Whether a Job that had ended before this driver started, without all results, runs once more.

    A Job that ends while this driver runs is not run again: its tasks get their failures.
    """
    # --retry-failed asks for it, however the Job ended.
    if intent.retry_failed:
        return True
    # A damaged transcript proves that workers write into this folder, so another run repairs it. A missing one proves
    # nothing at first: workers may not share this folder (then the termination message is the result, after
    # TERMINATION_MESSAGE_GRACE_SECONDS), or a network file system may show the file a little later.
    if unit.phase == "succeeded":
        return unit.has_damaged_transcript or unit.phase_seconds > RESULT_FILE_GRACE_SECONDS
    # A Job that failed or was deactivated is run again on request only.
    return False
