"""Goal for a unit's Job: every combination of the driver's intent and the unit's facts."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from epp_batch.controller.control import ControlState
from epp_batch.controller.desired import DesiredState, JobGoal, RunIntent, UnitFacts, derive_desired_state
from epp_batch.controller.task_results import RESULT_FILE_GRACE_SECONDS
from epp_batch.controller.unit_status import UnitPhase

SUBMIT, WATCH = RunIntent(creates_jobs=True), RunIntent(creates_jobs=False)
OPEN = UnitFacts(has_open_tasks=True, phase="absent", spec_hash="s")
LATE = RESULT_FILE_GRACE_SECONDS + 1
INTENTS = [
    RunIntent(creates, owns, retry, control)
    for creates, owns, retry in itertools.product((True, False), repeat=3)
    for control in get_args(ControlState)
]


@pytest.mark.parametrize("intent", INTENTS)
@pytest.mark.parametrize("deleted", [True, False])
def test_a_unit_without_open_tasks_needs_no_job(intent: RunIntent, deleted: bool):
    unit = UnitFacts(has_open_tasks=False, phase="succeeded", ended_before_start=True, deleted_externally=deleted)
    assert derive_desired_state(intent, unit) == DesiredState(JobGoal.NOT_NEEDED)


def test_submit_wants_a_job_with_the_current_spec():
    assert derive_desired_state(SUBMIT, OPEN) == DesiredState(JobGoal.PRESENT, delete_deactivated=True, spec_hash="s")


def test_pause_holds_the_job():
    desired = derive_desired_state(SUBMIT._replace(control="paused"), OPEN)
    assert desired == DesiredState(JobGoal.HELD, delete_deactivated=True, spec_hash="s")


def test_cancel_wants_no_job_even_to_replace_one_that_failed():
    intent = SUBMIT._replace(control="cancelled", retry_failed=True)
    failed = OPEN._replace(phase="failed", ended_before_start=True)
    assert derive_desired_state(intent, failed) == DesiredState(JobGoal.UNWANTED, delete_deactivated=True)


def test_watch_alone_knows_that_no_job_will_be_created():
    assert derive_desired_state(WATCH, OPEN) == DesiredState(JobGoal.UNWANTED)


def test_watch_beside_another_driver_leaves_jobs_to_it():
    assert derive_desired_state(WATCH._replace(owns_folder=False), OPEN) == DesiredState(JobGoal.MANAGED_ELSEWHERE)


@pytest.mark.parametrize("intent", INTENTS)
def test_a_job_that_a_user_deleted_is_not_wanted_any_more(intent: RunIntent):
    assert derive_desired_state(intent, OPEN._replace(deleted_externally=True)).job is JobGoal.UNWANTED


@pytest.mark.parametrize("phase", ["succeeded", "failed", "deactivated"])
def test_retry_failed_replaces_a_job_that_had_ended_before(phase: UnitPhase):
    intent, unit = SUBMIT._replace(retry_failed=True), OPEN._replace(phase=phase)
    assert derive_desired_state(intent, unit._replace(ended_before_start=True)).replace_ended
    assert not derive_desired_state(intent, unit).replace_ended  # it ended under this driver


@pytest.mark.parametrize("phase", ["failed", "deactivated"])
def test_a_job_that_had_failed_before_is_not_replaced_without_retry_failed(phase: UnitPhase):
    unit = OPEN._replace(phase=phase, ended_before_start=True, phase_seconds=1e6, has_damaged_transcript=True)
    assert not derive_desired_state(SUBMIT, unit).replace_ended


def test_a_job_whose_transcript_is_missing_is_replaced_after_the_grace_period():
    unit = OPEN._replace(phase="succeeded", ended_before_start=True)
    assert not derive_desired_state(SUBMIT, unit._replace(phase_seconds=LATE - 2)).replace_ended
    assert derive_desired_state(SUBMIT, unit._replace(phase_seconds=LATE)).replace_ended
    assert not derive_desired_state(SUBMIT, unit._replace(phase_seconds=LATE, ended_before_start=False)).replace_ended


def test_a_job_whose_transcript_is_damaged_is_replaced_at_once():
    unit = OPEN._replace(phase="succeeded", ended_before_start=True, has_damaged_transcript=True)
    assert derive_desired_state(SUBMIT, unit).replace_ended


@pytest.mark.parametrize("intent", INTENTS)
@pytest.mark.parametrize("phase", get_args(UnitPhase))
def test_without_the_intent_to_create_jobs_none_is_changed(intent: RunIntent, phase: UnitPhase):
    for ended, damaged, deleted in itertools.product((True, False), repeat=3):
        desired = derive_desired_state(intent, UnitFacts(True, phase, 1e6, ended, damaged, deleted, "s"))
        if not intent.creates_jobs:
            assert desired in (DesiredState(JobGoal.UNWANTED), DesiredState(JobGoal.MANAGED_ELSEWHERE))
        elif desired.job not in (JobGoal.PRESENT, JobGoal.HELD):
            assert desired == DesiredState(JobGoal.UNWANTED, delete_deactivated=True)
