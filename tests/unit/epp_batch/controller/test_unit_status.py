"""Objects in, states and milestones out."""

from __future__ import annotations

import pytest

from epp_batch.controller.unit_status import Facts, key, milestones, state
from tests.unit.epp_batch.controller.objects import ADMITTED, RESERVED, RUNNING, T0, UNIT, condition, job, pod, workload

TOO_MUCH = "insufficient quota for nvidia.com/gpu in flavor f, request (9) > maximum capacity (8)"


def waits(reason: str, message: str = "") -> Facts:
    return Facts(job(), workload(condition("QuotaReserved", "False", reason, message)))


@pytest.mark.parametrize(
    ("facts", "phase"),
    [
        (Facts(), "absent"),
        (Facts(job()), "unknown-to-kueue"),
        (Facts(job(deleted=True), workload()), "deleting"),
        (Facts(job(), workload()), "queued"),
        (waits("Pending"), "queued"),
        (Facts(job(), workload(RESERVED)), "reserved"),
        (Facts(job(), workload(RESERVED, ADMITTED)), "admitted"),
        (Facts(job(), workload(RESERVED, ADMITTED), (pod("Pending"),)), "admitted"),
        (Facts(job(), workload(RESERVED, ADMITTED), (pod("Failed", ended={"exitCode": 1}),)), "admitted"),
        (RUNNING, "running"),
        (Facts(job(condition("Complete")), workload(RESERVED, ADMITTED)), "succeeded"),
        (Facts(job(condition("Failed", reason="BackoffLimitExceeded")), workload()), "failed"),
        (Facts(job(condition("Complete"), deleted=True)), "succeeded"),
        (Facts(job(), workload(active=False)), "paused"),
    ],
)
def test_the_state_of_a_unit(facts: Facts, phase: str):
    assert state(facts).phase == phase


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
    assert state(waits(reason, message)).hopeless is hopeless


def test_what_kueue_stopped_for_good_is_not_paused():
    stopped = workload(active=False, evictions=1, reason="Deactivated", cause="MaximumExecutionTimeExceeded")
    assert state(Facts(job(), stopped))[:2] == ("deactivated", "MaximumExecutionTimeExceeded")
    ours = workload(
        active=False, evictions=1, reason="Deactivated", annotations={"epp-batch/paused": "true"}, cause="x"
    )
    assert state(Facts(job(), ours)).phase == "paused"


def test_why_a_pod_does_not_start():
    unschedulable = pod("Pending", condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available"))
    pulling = pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    admitted = workload(RESERVED, ADMITTED)
    assert state(Facts(job(), admitted, (unschedulable,)))[1:3] == ("Unschedulable", "0/3 nodes are available")
    assert state(Facts(job(), admitted, (pulling,)))[1:3] == ("ImagePullBackOff", "no such image")


def test_milestones_of_a_plain_life():
    told = milestones(UNIT, RUNNING)
    assert [(event.kind, event.at - T0, event.attempt) for event in told] == [
        ("created", 0, 0),
        ("queued", 1, 0),
        ("reserved", 2, 1),
        ("admitted", 2, 1),
        ("running", 4, 1),
    ]
    assert (told[-1].place, told[-1].detail) == ("n1", "p1")


def test_a_preemption_while_somebody_looks():
    evicted = condition("Evicted", reason="Preempted", second=6)
    preempted = condition("Preempted", reason="InClusterQueue", second=6)
    requeued = condition("Requeued", reason="Preempted", second=7)
    unset = [condition("QuotaReserved", "False", second=6), condition("Admitted", "False", second=6)]
    facts = Facts(job(), workload(*unset, evicted, preempted, requeued, evictions=1))
    told = [(event.kind, event.attempt, event.detail) for event in milestones(UNIT, facts)][2:]
    assert told == [("evicted", 1, "Preempted: InClusterQueue"), ("requeued", 1, "Preempted")]


def test_a_preemption_that_nobody_saw_is_told_at_the_readmission():
    again = [condition("QuotaReserved", second=9), condition("Admitted", second=9)]
    over = condition("Evicted", "False", "QuotaReserved", "Previously: Preempted to accommodate", second=9)
    told = milestones(UNIT, Facts(job(), workload(*again, over, evictions=2)))
    assert [(e.kind, e.attempt) for e in told if e.attempt] == [
        ("evicted", 1),
        ("evicted", 2),
        ("reserved", 3),
        ("admitted", 3),
    ]
    assert {e.detail for e in told if e.kind == "evicted"} == {"Preempted"}


FAILED = pod("Failed", began=4, ended={"exitCode": 137, "reason": "OOMKilled"})
NEXT = pod("Running", name="p2", born=9, began=10)
HELD = workload(RESERVED, ADMITTED)


def retries(facts: Facts) -> list[str]:
    return [event.detail for event in milestones(UNIT, facts) if event.kind == "retried"]


def test_a_pod_that_is_replaced_is_a_retry_and_the_last_one_is_not():
    assert retries(Facts(job(), HELD, (FAILED, NEXT))) == ["p1: exit code 137 (OOMKilled)"]
    assert retries(Facts(job(), HELD, (FAILED,))) == ["p1: exit code 137 (OOMKilled)"]
    last = pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 1, "reason": "Error"})
    assert retries(Facts(job(), HELD, (FAILED, last))) == ["p1: exit code 137 (OOMKilled)"]  # backoffLimit is 1
    assert retries(Facts(job(), HELD, (pod("Failed", began=4, ended={"exitCode": 64}),))) == []  # cannot get better
    assert retries(Facts(job(condition("Failed")), HELD, (FAILED,))) == []


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
    last = pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 137}, counted=counted)
    assert retries(Facts(job(status=status), HELD, (last,))) == []
    fewer = {**status, "failed": status["failed"] - 1}
    assert retries(Facts(job(status=fewer), HELD, (last,))) == ["p2: exit code 137"]


def test_a_worker_that_was_told_to_stop_costs_no_retry():
    stopped = pod("Failed", began=4, ended={"exitCode": 143})
    assert retries(Facts(job(), HELD, (stopped,))) == ["p1: exit code 143"]
    later = pod("Failed", name="p2", born=9, began=10, ended={"exitCode": 137})
    assert retries(Facts(job(), HELD, (stopped, later))) == ["p1: exit code 143", "p2: exit code 137"]


def test_a_disruption_is_a_retry_and_the_end_of_a_suspended_job_is_none():
    gone = condition("DisruptionTarget", reason="DeletionByPodGC", message="node is gone", second=8)
    assert retries(Facts(job(), HELD, (pod("Failed", gone, began=4, deleted=True),))) == [
        "p1: DeletionByPodGC: node is gone"
    ]
    assert retries(Facts(job(), HELD, (pod("Failed", began=4, ended={"exitCode": 143}, deleted=True),))) == []


def test_the_same_milestone_has_the_same_key_whoever_tells_it():
    early, late = milestones(UNIT, RUNNING), milestones(UNIT, Facts(RUNNING.job, workload(evictions=1), RUNNING.pods))
    assert key(early[-1]) == key(late[-1])  # one pod runs once, whatever the attempt is counted as later
    assert len({key(event) for event in early}) == len(early)
