"""What to do about a unit: one action, the same however often it is asked."""

from __future__ import annotations

import itertools

import pytest

from epp_batch.controller.reconcile import (
    HOPELESS_SECONDS,
    Cancelled,
    Create,
    Delete,
    GiveUp,
    Hold,
    Settle,
    Want,
    action,
)
from epp_batch.controller.unit_status import Facts, state
from tests.unit.epp_batch.controller.objects import ADMITTED, RESERVED, RUNNING, condition, job, workload

QUEUED = Facts(job(annotations={"epp-batch/spec-hash": "new"}), workload())
NEVER = Facts(job(), workload(condition("QuotaReserved", "False", "Inadmissible", "LocalQueue lq doesn't exist")))
DONE, FAILED = Facts(job(condition("Complete"))), Facts(job(condition("Failed")))
STOPPED = Facts(job(), workload(active=False, evictions=1, reason="Deactivated", cause="RequeuingLimitExceeded"))
EVERY = [Facts(), Facts(job()), QUEUED, NEVER, DONE, FAILED, STOPPED, RUNNING, Facts(job(deleted=True)),
         Facts(job(), workload(active=False)), Facts(job(), workload(RESERVED, ADMITTED))]  # fmt: skip


def test_what_is_missing_is_made():
    assert action(Want(open=True), Facts()) == Create()
    assert action(Want(open=True, create=False), Facts()) is None
    assert action(Want(open=True, hold=True), Facts()) is None


def test_what_somebody_deleted_is_not_made_again():
    assert action(Want(open=True, gone=True), Facts()) == Cancelled()


def test_what_has_ended_is_settled_or_tried_again():
    assert action(Want(open=True), DONE) == Settle(state(DONE))
    assert action(Want(open=True), FAILED) == Settle(state(FAILED))
    assert action(Want(open=True, retry=True), FAILED) == Delete("u1")
    assert action(Want(open=True, retry=True), DONE) == Delete("u1")


def test_what_can_never_run_is_given_up_after_a_while():
    assert action(Want(open=True, waited=HOPELESS_SECONDS - 1), NEVER) is None
    assert action(Want(open=True, waited=HOPELESS_SECONDS + 1), NEVER) == GiveUp(state(NEVER), "u1")
    assert action(Want(open=True, create=False, waited=1e6), NEVER) is None  # who only looks on waits
    assert action(Want(open=True), STOPPED) == GiveUp(state(STOPPED), "u1")


def test_what_waits_with_other_settings_is_made_anew_and_what_runs_is_left():
    assert action(Want(open=True, spec_hash="newer"), QUEUED) == Delete("u1")
    assert action(Want(open=True, spec_hash="new"), QUEUED) is None
    assert action(Want(open=True, spec_hash="newer", create=False), QUEUED) is None
    running = Facts(QUEUED.job, RUNNING.workload, RUNNING.pods)
    assert action(Want(open=True, spec_hash="newer"), running) is None


def test_a_paused_run_holds_what_waits_and_not_what_runs():
    assert action(Want(open=True, hold=True), QUEUED) == Hold("job-r-1-abcde")
    assert action(Want(open=True, hold=True), RUNNING) is None


@pytest.mark.parametrize("facts", EVERY)
def test_nothing_is_ever_done_about_what_is_through(facts: Facts):
    for create, retry, gone, hold in itertools.product((True, False), repeat=4):
        want = Want(open=False, create=create, retry=retry, gone=gone, hold=hold, spec_hash="x", waited=1e6)
        assert action(want, facts) is None


@pytest.mark.parametrize("facts", EVERY)
def test_only_a_missing_job_is_made_and_only_a_job_that_is_there_is_deleted(facts: Facts):
    for create, retry, gone, hold in itertools.product((True, False), repeat=4):
        want = Want(open=True, create=create, retry=retry, gone=gone, hold=hold, spec_hash="x", waited=1e6)
        act = action(want, facts)
        if facts.job is None:
            assert act in (None, Create(), Cancelled())
        else:
            assert not isinstance(act, Create | Cancelled)
        if isinstance(act, Delete | GiveUp):
            assert facts.job is not None
            assert act.uid == facts.job.metadata.uid
            assert state(facts).phase not in ("running", "admitted", "reserved")
