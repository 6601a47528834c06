"""What to do about a unit: one action, the same however often it is asked."""

from __future__ import annotations

import itertools

import pytest

from epp_batch.controller.reconcile import (
    INADMISSIBLE_GRACE_SECONDS,
    CollectResults,
    CreateJob,
    Deactivate,
    DeleteJob,
    DesiredState,
    Fail,
    JobDeletedExternally,
    next_action,
)
from epp_batch.controller.unit_status import UnitObjects, derive_unit_status
from tests.unit.epp_batch.controller.objects import ADMITTED, RESERVED, RUNNING, make_condition, make_job, make_workload

QUEUED = UnitObjects(make_job(annotations={"epp-batch/spec-hash": "new"}), make_workload())
NEVER = UnitObjects(
    make_job(), make_workload(make_condition("QuotaReserved", "False", "Inadmissible", "LocalQueue lq doesn't exist"))
)
DONE, FAILED = UnitObjects(make_job(make_condition("Complete"))), UnitObjects(make_job(make_condition("Failed")))
STOPPED = UnitObjects(
    make_job(), make_workload(active=False, evictions=1, reason="Deactivated", cause="RequeuingLimitExceeded")
)
EVERY = [
    UnitObjects(),
    UnitObjects(make_job()),
    QUEUED,
    NEVER,
    DONE,
    FAILED,
    STOPPED,
    RUNNING,
    UnitObjects(make_job(deleted=True)),
    UnitObjects(make_job(), make_workload(active=False)),
    UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)),
]


def test_what_is_missing_is_made():
    assert next_action(DesiredState(has_open_tasks=True), UnitObjects()) == CreateJob()
    assert next_action(DesiredState(has_open_tasks=True, may_create=False), UnitObjects()) is None
    assert next_action(DesiredState(has_open_tasks=True, paused=True), UnitObjects()) is None


def test_what_somebody_deleted_is_not_made_again():
    assert (
        next_action(DesiredState(has_open_tasks=True, deleted_externally=True), UnitObjects()) == JobDeletedExternally()
    )


def test_what_has_ended_is_settled_or_tried_again():
    assert next_action(DesiredState(has_open_tasks=True), DONE) == CollectResults(derive_unit_status(DONE))
    assert next_action(DesiredState(has_open_tasks=True), FAILED) == CollectResults(derive_unit_status(FAILED))
    assert next_action(DesiredState(has_open_tasks=True, recreate=True), FAILED) == DeleteJob("u1")
    assert next_action(DesiredState(has_open_tasks=True, recreate=True), DONE) == DeleteJob("u1")


def test_what_can_never_run_is_given_up_after_a_while():
    assert next_action(DesiredState(has_open_tasks=True, state_seconds=INADMISSIBLE_GRACE_SECONDS - 1), NEVER) is None
    assert next_action(DesiredState(has_open_tasks=True, state_seconds=INADMISSIBLE_GRACE_SECONDS + 1), NEVER) == Fail(
        derive_unit_status(NEVER), "u1"
    )
    assert (
        next_action(DesiredState(has_open_tasks=True, may_create=False, state_seconds=1e6), NEVER) is None
    )  # who only looks on waits
    assert next_action(DesiredState(has_open_tasks=True), STOPPED) == Fail(derive_unit_status(STOPPED), "u1")


def test_what_waits_with_other_settings_is_made_anew_and_what_runs_is_left():
    assert next_action(DesiredState(has_open_tasks=True, spec_hash="newer"), QUEUED) == DeleteJob("u1")
    assert next_action(DesiredState(has_open_tasks=True, spec_hash="new"), QUEUED) is None
    assert next_action(DesiredState(has_open_tasks=True, spec_hash="newer", may_create=False), QUEUED) is None
    running = UnitObjects(QUEUED.job, RUNNING.workload, RUNNING.pods)
    assert next_action(DesiredState(has_open_tasks=True, spec_hash="newer"), running) is None


def test_a_paused_run_holds_what_waits_and_not_what_runs():
    assert next_action(DesiredState(has_open_tasks=True, paused=True), QUEUED) == Deactivate("job-r-1-abcde")
    assert next_action(DesiredState(has_open_tasks=True, paused=True), RUNNING) is None


@pytest.mark.parametrize("facts", EVERY)
def test_nothing_is_ever_done_about_what_is_through(facts: UnitObjects):
    for create, retry, gone, hold in itertools.product((True, False), repeat=4):
        want = DesiredState(
            has_open_tasks=False,
            may_create=create,
            recreate=retry,
            deleted_externally=gone,
            paused=hold,
            spec_hash="x",
            state_seconds=1e6,
        )
        assert next_action(want, facts) is None


@pytest.mark.parametrize("facts", EVERY)
def test_only_a_missing_job_is_made_and_only_a_job_that_is_there_is_deleted(facts: UnitObjects):
    for create, retry, gone, hold in itertools.product((True, False), repeat=4):
        want = DesiredState(
            has_open_tasks=True,
            may_create=create,
            recreate=retry,
            deleted_externally=gone,
            paused=hold,
            spec_hash="x",
            state_seconds=1e6,
        )
        act = next_action(want, facts)
        if facts.job is None:
            assert act in (None, CreateJob(), JobDeletedExternally())
        else:
            assert not isinstance(act, CreateJob | JobDeletedExternally)
        if isinstance(act, DeleteJob | Fail):
            assert facts.job is not None
            assert act.uid == facts.job.metadata.uid
            assert derive_unit_status(facts).phase not in ("running", "admitted", "reserved")
