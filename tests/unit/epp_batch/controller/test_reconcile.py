"""The next action for a unit: it depends on the desired and the observed state only."""

from __future__ import annotations

import itertools

import pytest

from epp_batch.controller.desired import DesiredState, JobGoal
from epp_batch.controller.reconcile import (
    INADMISSIBLE_GRACE_SECONDS,
    Action,
    CancelTasks,
    CollectResults,
    CreateJob,
    Deactivate,
    DeleteJob,
    Fail,
    ObservedState,
    next_action,
)
from epp_batch.controller.unit_status import UnitObjects, UnitStatus, derive_unit_status
from tests.unit.epp_batch.controller.objects import (
    ADMITTED,
    RESERVED,
    RUNNING,
    make_condition,
    make_job,
    make_workload,
)

QUEUED = UnitObjects(make_job(annotations={"epp-batch/spec-hash": "new"}), make_workload())
INADMISSIBLE = UnitObjects(
    make_job(), make_workload(make_condition("QuotaReserved", "False", "Inadmissible", "LocalQueue lq doesn't exist"))
)
SUCCEEDED = UnitObjects(make_job(make_condition("Complete")))
FAILED = UnitObjects(make_job(make_condition("Failed")))
DEACTIVATED = UnitObjects(
    make_job(), make_workload(active=False, evictions=1, reason="Deactivated", cause="RequeuingLimitExceeded")
)
PAUSED = UnitObjects(make_job(), make_workload(active=False))
EVERY = [
    UnitObjects(),
    UnitObjects(make_job()),
    QUEUED,
    INADMISSIBLE,
    SUCCEEDED,
    FAILED,
    DEACTIVATED,
    RUNNING,
    UnitObjects(make_job(deleted=True)),
    PAUSED,
    UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)),
]
PRESENT, HELD = (
    DesiredState(JobGoal.PRESENT, delete_deactivated=True),
    DesiredState(JobGoal.HELD, delete_deactivated=True),
)
UNWANTED, MANAGED_ELSEWHERE = DesiredState(JobGoal.UNWANTED), DesiredState(JobGoal.MANAGED_ELSEWHERE)
DESIRED = [
    DesiredState(job, replace, delete, spec)
    for job in JobGoal
    for replace, delete in itertools.product((True, False), repeat=2)
    for spec in ("", "x")
]


def action(desired: DesiredState, objects: UnitObjects, seconds: float = 0.0) -> Action:
    return next_action(desired, ObservedState(objects, derive_unit_status(objects), seconds))


def status(objects: UnitObjects) -> UnitStatus:
    return derive_unit_status(objects)


def test_a_missing_job_is_created_unless_it_is_held_or_managed_elsewhere():
    assert action(PRESENT, UnitObjects()) == CreateJob()
    assert action(MANAGED_ELSEWHERE, UnitObjects()) is None
    assert action(HELD, UnitObjects()) is None


def test_tasks_without_a_job_are_cancelled_if_none_is_wanted():
    assert action(UNWANTED, UnitObjects()) == CancelTasks()


def test_results_of_an_ended_job_are_collected_or_the_job_is_replaced():
    for desired in (PRESENT, HELD, UNWANTED, MANAGED_ELSEWHERE):
        assert action(desired, SUCCEEDED) == CollectResults(status(SUCCEEDED))
        assert action(desired, FAILED) == CollectResults(status(FAILED))
    assert action(PRESENT._replace(replace_ended=True), FAILED) == DeleteJob("u1")
    assert action(PRESENT._replace(replace_ended=True), SUCCEEDED) == DeleteJob("u1")


def test_an_inadmissible_unit_fails_after_a_grace_period():
    assert action(PRESENT, INADMISSIBLE, INADMISSIBLE_GRACE_SECONDS - 1) is None
    assert action(PRESENT, INADMISSIBLE, INADMISSIBLE_GRACE_SECONDS + 1) == Fail(status(INADMISSIBLE), "u1")
    assert action(UNWANTED, INADMISSIBLE, 1e6) is None  # a watcher waits: the queue may change
    assert action(MANAGED_ELSEWHERE, INADMISSIBLE, 1e6) is None


def test_a_unit_that_kueue_has_deactivated_fails_or_is_replaced():
    assert action(PRESENT, DEACTIVATED) == Fail(status(DEACTIVATED), "u1")
    assert action(UNWANTED, DEACTIVATED) == Fail(status(DEACTIVATED), None)
    assert action(MANAGED_ELSEWHERE, DEACTIVATED) == Fail(status(DEACTIVATED), None)
    assert action(PRESENT._replace(replace_ended=True), DEACTIVATED) == DeleteJob("u1")


def test_a_waiting_job_with_another_spec_is_replaced_and_a_running_one_is_not():
    assert action(PRESENT._replace(spec_hash="newer"), QUEUED) == DeleteJob("u1")
    assert action(HELD._replace(spec_hash="newer"), QUEUED) == DeleteJob("u1")
    assert action(PRESENT._replace(spec_hash="new"), QUEUED) is None
    assert action(UNWANTED, QUEUED) is None
    running = UnitObjects(QUEUED.job, RUNNING.workload, RUNNING.pods)
    assert action(PRESENT._replace(spec_hash="newer"), running) is None


def test_a_held_unit_leaves_its_queue_if_it_is_not_running():
    assert action(HELD, QUEUED) == Deactivate("job-r-1-abcde")
    assert action(HELD, RUNNING) is None
    assert action(HELD, PAUSED) is None


@pytest.mark.parametrize("objects", EVERY)
def test_a_unit_that_needs_no_job_has_no_action(objects: UnitObjects):
    for desired in DESIRED:
        if desired.job is JobGoal.NOT_NEEDED:
            assert action(desired, objects, 1e6) is None


@pytest.mark.parametrize("objects", EVERY)
def test_only_a_missing_job_is_created_and_only_an_existing_one_is_deleted(objects: UnitObjects):
    for desired in DESIRED:
        act = action(desired, objects, 1e6)
        if objects.job is None:
            assert act in (None, CreateJob(), CancelTasks())
        else:
            assert not isinstance(act, CreateJob | CancelTasks)
        if isinstance(act, DeleteJob | Fail):
            assert objects.job is not None
            assert status(objects).phase not in ("running", "admitted", "reserved")
            deletes = isinstance(act, DeleteJob) or desired.delete_deactivated or status(objects).phase == "queued"
            assert act.uid == (objects.job.metadata.uid if deletes else None)
        if isinstance(act, CreateJob | Deactivate):
            assert desired.job in (JobGoal.PRESENT, JobGoal.HELD)


@pytest.mark.parametrize("objects", EVERY)
def test_a_watcher_writes_nothing(objects: UnitObjects):
    for desired in (UNWANTED, MANAGED_ELSEWHERE):
        act = action(desired, objects, 1e6)
        assert not isinstance(act, CreateJob | DeleteJob | Deactivate)
        assert not isinstance(act, Fail) or act.uid is None
