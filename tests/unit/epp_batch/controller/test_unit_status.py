"""Objects in, states and milestones out."""

from __future__ import annotations

import pytest

from epp_batch.controller.unit_status import UnitObjects, derive_unit_status, event_key, list_milestones
from tests.unit.epp_batch.controller.objects import (
    ADMITTED,
    RESERVED,
    RUNNING,
    T0,
    UNIT,
    make_condition,
    make_job,
    make_pod,
    make_workload,
)

TOO_MUCH = "insufficient quota for nvidia.com/gpu in flavor f, request (9) > maximum capacity (8)"


def waits(reason: str, message: str = "") -> UnitObjects:
    return UnitObjects(make_job(), make_workload(make_condition("QuotaReserved", "False", reason, message)))


@pytest.mark.parametrize(
    ("facts", "phase"),
    [
        (UnitObjects(), "absent"),
        (UnitObjects(make_job()), "unknown-to-kueue"),
        (UnitObjects(make_job(deleted=True), make_workload()), "deleting"),
        (UnitObjects(make_job(), make_workload()), "queued"),
        (waits("Pending"), "queued"),
        (UnitObjects(make_job(), make_workload(RESERVED)), "reserved"),
        (UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)), "admitted"),
        (UnitObjects(make_job(), make_workload(RESERVED, ADMITTED), (make_pod("Pending"),)), "admitted"),
        (
            UnitObjects(make_job(), make_workload(RESERVED, ADMITTED), (make_pod("Failed", ended={"exitCode": 1}),)),
            "admitted",
        ),
        (RUNNING, "running"),
        (UnitObjects(make_job(make_condition("Complete")), make_workload(RESERVED, ADMITTED)), "succeeded"),
        (UnitObjects(make_job(make_condition("Failed", reason="BackoffLimitExceeded")), make_workload()), "failed"),
        (UnitObjects(make_job(make_condition("Complete"), deleted=True)), "succeeded"),
        (UnitObjects(make_job(), make_workload(active=False)), "paused"),
    ],
)
def test_the_state_of_a_unit(facts: UnitObjects, phase: str):
    assert derive_unit_status(facts).phase == phase


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("Pending", "couldn't assign flavors: insufficient unused quota, 1 more needed", False),
        ("Pending", TOO_MUCH, True),
        ("Inadmissible", "LocalQueue lq doesn't exist", True),
        ("Pending", "resource cpu unavailable in ClusterQueue", True),
        ("ExceedsMaxQuota", "", True),
        ("Suspended", "ClusterQueue cq is inactive", False),
    ],
)
def test_waiting_in_vain_is_told_from_waiting(reason: str, message: str, hopeless: bool):
    assert derive_unit_status(waits(reason, message)).never_admissible is hopeless


def test_what_kueue_stopped_for_good_is_not_paused():
    stopped = make_workload(active=False, evictions=1, reason="Deactivated", cause="MaximumExecutionTimeExceeded")
    assert derive_unit_status(UnitObjects(make_job(), stopped))[:2] == ("deactivated", "MaximumExecutionTimeExceeded")
    ours = make_workload(
        active=False, evictions=1, reason="Deactivated", annotations={"epp-batch/paused": "true"}, cause="x"
    )
    assert derive_unit_status(UnitObjects(make_job(), ours)).phase == "paused"


def test_why_a_pod_does_not_start():
    unschedulable = make_pod(
        "Pending", make_condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")
    )
    pulling = make_pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    admitted = make_workload(RESERVED, ADMITTED)
    assert derive_unit_status(UnitObjects(make_job(), admitted, (unschedulable,)))[1:3] == (
        "Unschedulable",
        "0/3 nodes are available",
    )
    assert derive_unit_status(UnitObjects(make_job(), admitted, (pulling,)))[1:3] == (
        "ImagePullBackOff",
        "no such image",
    )


def test_milestones_of_a_plain_life():
    told = list_milestones(UNIT, RUNNING)
    assert [(event.kind, event.at - T0, event.attempt) for event in told] == [
        ("created", 0, 0),
        ("queued", 1, 0),
        ("reserved", 2, 1),
        ("admitted", 2, 1),
        ("running", 4, 1),
    ]
    assert (told[-1].place, told[-1].detail) == ("n1", "p1")


def test_a_preemption_while_somebody_looks():
    evicted = make_condition("Evicted", reason="Preempted", second=6)
    preempted = make_condition("Preempted", reason="InClusterQueue", second=6)
    requeued = make_condition("Requeued", reason="Preempted", second=7)
    unset = [make_condition("QuotaReserved", "False", second=6), make_condition("Admitted", "False", second=6)]
    facts = UnitObjects(make_job(), make_workload(*unset, evicted, preempted, requeued, evictions=1))
    told = [(event.kind, event.attempt, event.detail) for event in list_milestones(UNIT, facts)][2:]
    assert told == [("evicted", 1, "Preempted: InClusterQueue"), ("requeued", 1, "Preempted")]


def test_a_preemption_that_nobody_saw_is_told_at_the_readmission():
    again = [make_condition("QuotaReserved", second=9), make_condition("Admitted", second=9)]
    over = make_condition("Evicted", "False", "QuotaReserved", "Previously: Preempted to accommodate", second=9)
    told = list_milestones(UNIT, UnitObjects(make_job(), make_workload(*again, over, evictions=2)))
    assert [(e.kind, e.attempt) for e in told if e.attempt] == [
        ("evicted", 1),
        ("evicted", 2),
        ("reserved", 3),
        ("admitted", 3),
    ]
    assert {e.detail for e in told if e.kind == "evicted"} == {"Preempted"}


FAILED = make_pod("Failed", began=4, ended={"exitCode": 137, "reason": "OOMKilled"})
NEXT = make_pod("Running", name="p2", born=9, began=10)
HELD = make_workload(RESERVED, ADMITTED)


def retries(facts: UnitObjects) -> list[str]:
    return [event.detail for event in list_milestones(UNIT, facts) if event.kind == "retried"]


def test_a_pod_that_is_replaced_is_a_retry_and_the_last_one_is_not():
    assert retries(UnitObjects(make_job(), HELD, (FAILED, NEXT))) == ["p1: exit code 137 (OOMKilled)"]
    assert retries(UnitObjects(make_job(), HELD, (FAILED,))) == ["p1: exit code 137 (OOMKilled)"]
    last = make_pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 1, "reason": "Error"})
    assert retries(UnitObjects(make_job(), HELD, (FAILED, last))) == [
        "p1: exit code 137 (OOMKilled)"
    ]  # backoffLimit is 1
    assert (
        retries(UnitObjects(make_job(), HELD, (make_pod("Failed", began=4, ended={"exitCode": 64}),))) == []
    )  # cannot get better
    assert retries(UnitObjects(make_job(make_condition("Failed")), HELD, (FAILED,))) == []


@pytest.mark.parametrize(
    ("counted", "status"),
    [
        (False, {"failed": 1}),  # not seen by the Job controller
        (False, {"failed": 1, "uncountedTerminatedPods": {"failed": ["uid-p2"]}}),
        (True, {"failed": 1, "uncountedTerminatedPods": {"failed": ["uid-p2"]}}),
        (True, {"failed": 2, "uncountedTerminatedPods": {}}),
    ],
)
def test_the_last_failure_is_no_retry_though_the_pods_before_it_are_gone(counted: bool, status: dict):
    last = make_pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 137}, counted=counted)
    assert retries(UnitObjects(make_job(status=status), HELD, (last,))) == []
    fewer = {**status, "failed": status["failed"] - 1}
    assert retries(UnitObjects(make_job(status=fewer), HELD, (last,))) == ["p2: exit code 137"]


def test_a_worker_that_was_told_to_stop_costs_no_retry():
    stopped = make_pod("Failed", began=4, ended={"exitCode": 143})
    assert retries(UnitObjects(make_job(), HELD, (stopped,))) == ["p1: exit code 143"]
    later = make_pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 137})
    assert retries(UnitObjects(make_job(), HELD, (stopped, later))) == ["p1: exit code 143", "p2: exit code 137"]


def test_a_disruption_is_a_retry_and_the_end_of_a_suspended_job_is_none():
    gone = make_condition("DisruptionTarget", reason="DeletionByPodGC", message="node is gone", second=8)
    assert retries(UnitObjects(make_job(), HELD, (make_pod("Failed", gone, began=4, deleted=True),))) == [
        "p1: DeletionByPodGC: node is gone"
    ]
    assert (
        retries(UnitObjects(make_job(), HELD, (make_pod("Failed", began=4, ended={"exitCode": 143}, deleted=True),)))
        == []
    )


def test_the_same_milestone_has_the_same_key_whoever_tells_it():
    early, late = (
        list_milestones(UNIT, RUNNING),
        list_milestones(UNIT, UnitObjects(RUNNING.job, make_workload(evictions=1), RUNNING.pods)),
    )
    assert event_key(early[-1]) == event_key(late[-1])  # one pod runs once, whatever the attempt is counted as later
    assert len({event_key(event) for event in early}) == len(early)
