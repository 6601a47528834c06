"""What the Job of one unit should be. Pure: the driver's intent and facts about the unit in, a `DesiredState` out.

`reconcile.next_action` compares it with what the API server has. Nothing else decides about Jobs.
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
    """`submit`: Jobs are created, replaced and deleted. `watch`: their outcomes are only recorded."""
    owns_folder: bool = True
    """No other driver of this run is alive (it would hold the folder's lock)."""
    retry_failed: bool = False
    """`--retry-failed`: Jobs that had failed before are replaced."""
    control: ControlState = "go"
    """What `pause`, `resume` and `cancel` have asked for."""


class UnitFacts(NamedTuple):
    """What is known of one unit besides its API objects."""

    has_open_tasks: bool
    """Some task is neither done nor failed nor cancelled."""
    phase: UnitPhase
    phase_seconds: float = 0.0
    """Seconds since the unit's status last changed."""
    ended_before_start: bool = False
    """The Job that is there now had ended or was deactivated when this driver first saw it."""
    has_damaged_transcript: bool = False
    """The folder has a result of an open task, but not all of its files."""
    deleted_externally: bool = False
    """Its Job was deleted before it ended, and not by this driver."""
    spec_hash: str = ""
    """Of the Job as this driver would create it now; empty if it creates none."""


class JobGoal(Enum):
    """What the Job of a unit should be."""

    NOT_NEEDED = "not needed"  # all tasks have ended: whatever Job there is stays as it is
    PRESENT = "present"  # there should be a Job with the current spec, queued or running or ended
    HELD = "held"  # as PRESENT, but the run is paused: no Job is created, and a queued one leaves its queue
    UNWANTED = "unwanted"  # no Job will be created: without one, the unit's tasks are cancelled
    FOREIGN = "foreign"  # another driver creates Jobs: without one, there is nothing to do


class DesiredState(NamedTuple):
    """Goal for one unit's Job."""

    job: JobGoal
    replace_ended: bool = False
    """An ended or deactivated Job is deleted, so that a new one can be created."""
    delete_hopeless: bool = False
    """A Job that can never run is deleted once its tasks have failed."""
    spec_hash: str = ""
    """Spec of the Job; one that still waits with another spec is replaced. Empty for goals that create none."""


def derive_desired_state(intent: RunIntent, unit: UnitFacts) -> DesiredState:
    """The goal for one unit's Job, first matching case."""
    # Every task has a transcript, a final failure or was cancelled. The Job stays for its TTL: its times are read.
    if not unit.has_open_tasks:
        return DesiredState(JobGoal.NOT_NEEDED)

    # A user deleted the Job while it was waiting or running (`kubectl delete`): taken as a request to cancel.
    # A Job that had ended is deleted by its TTL as well, so its deletion says nothing.
    if unit.deleted_externally:
        return DesiredState(JobGoal.UNWANTED, delete_hopeless=intent.creates_jobs)

    # `watch` beside a living `submit`: that one creates what is missing. Without one nothing will ever be created.
    if not intent.creates_jobs:
        return DesiredState(JobGoal.UNWANTED if intent.owns_folder else JobGoal.FOREIGN)

    # `epp-batch cancel` deletes the Jobs itself; this driver must not create them again.
    if intent.control == "cancelled":
        return DesiredState(JobGoal.UNWANTED, delete_hopeless=True)

    return DesiredState(
        JobGoal.HELD if intent.control == "paused" else JobGoal.PRESENT,
        replace_ended=unit.ended_before_start and _should_run_again(intent, unit),
        delete_hopeless=True,
        spec_hash=unit.spec_hash,
    )


def _should_run_again(intent: RunIntent, unit: UnitFacts) -> bool:
    """Whether a Job that had ended before this driver started, without all results, runs once more.

    A Job that ends while this driver runs is not run again: its tasks get their failures.
    """
    # --retry-failed asks for it, however the Job ended.
    if intent.retry_failed:
        return True
    # A transcript that was damaged since: the worker wrote it into this folder, so it can do that again. Without one,
    # the folder may be one that workers do not share, or a network file system that shows the file a little later.
    if unit.phase == "succeeded":
        return unit.has_damaged_transcript or unit.phase_seconds > RESULT_FILE_GRACE_SECONDS
    # A Job that failed or was deactivated is run again on request only.
    return False
