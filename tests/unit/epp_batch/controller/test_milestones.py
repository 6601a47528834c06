"""Timeline events that a unit's objects prove."""

from __future__ import annotations

import pytest

from epp_batch.controller.milestones import event_key, list_milestones
from epp_batch.controller.unit_status import UnitObjects
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


def test_milestones_of_an_undisturbed_unit():
    events = list_milestones(UNIT, RUNNING)
    assert [(event.kind, event.at - T0, event.attempt) for event in events] == [
        ("created", 0, 0),
        ("queued", 1, 0),
        ("reserved", 2, 1),
        ("admitted", 2, 1),
        ("running", 4, 1),
    ]
    assert (events[-1].place, events[-1].detail) == ("n1", "p1")


def test_a_preemption_that_is_observed_as_it_happens():
    evicted = make_condition("Evicted", reason="Preempted", second=6)
    preempted = make_condition("Preempted", reason="InClusterQueue", second=6)
    requeued = make_condition("Requeued", reason="Preempted", second=7)
    unset = [make_condition("QuotaReserved", "False", second=6), make_condition("Admitted", "False", second=6)]
    objects = UnitObjects(make_job(), make_workload(*unset, evicted, preempted, requeued, evictions=1))
    evictions = [(event.kind, event.attempt, event.detail) for event in list_milestones(UNIT, objects)][2:]
    assert evictions == [("evicted", 1, "Preempted: InClusterQueue"), ("requeued", 1, "Preempted")]


def test_evictions_that_were_not_observed_are_listed_after_the_readmission():
    again = [make_condition("QuotaReserved", second=9), make_condition("Admitted", second=9)]
    over = make_condition("Evicted", "False", "QuotaReserved", "Previously: Preempted to accommodate", second=9)
    events = list_milestones(UNIT, UnitObjects(make_job(), make_workload(*again, over, evictions=2)))
    assert [(e.kind, e.attempt) for e in events if e.attempt] == [
        ("evicted", 1),
        ("evicted", 2),
        ("reserved", 3),
        ("admitted", 3),
    ]
    assert {e.detail for e in events if e.kind == "evicted"} == {"Preempted"}


FAILED = make_pod("Failed", started_at=4, terminated={"exitCode": 137, "reason": "OOMKilled"})
NEXT = make_pod("Running", name="p2", created_at=9, started_at=10)
ADMITTED_WORKLOAD = make_workload(RESERVED, ADMITTED)


def retry_details(objects: UnitObjects) -> list[str]:
    return [event.detail for event in list_milestones(UNIT, objects) if event.kind == "retried"]


def test_a_failed_pod_that_the_job_replaces_is_a_retry_and_the_last_one_is_not():
    assert retry_details(UnitObjects(make_job(), ADMITTED_WORKLOAD, (FAILED, NEXT))) == [
        "p1: exit code 137 (OOMKilled)"
    ]
    assert retry_details(UnitObjects(make_job(), ADMITTED_WORKLOAD, (FAILED,))) == ["p1: exit code 137 (OOMKilled)"]
    last = make_pod("Failed", name="p2", created_at=9, started_at=10, terminated={"exitCode": 1, "reason": "Error"})
    assert retry_details(UnitObjects(make_job(), ADMITTED_WORKLOAD, (FAILED, last))) == [
        "p1: exit code 137 (OOMKilled)"
    ]  # backoffLimit is 1
    assert (
        retry_details(
            UnitObjects(make_job(), ADMITTED_WORKLOAD, (make_pod("Failed", started_at=4, terminated={"exitCode": 64}),))
        )
        == []
    )  # FailJob: a permanent failure
    assert retry_details(UnitObjects(make_job(make_condition("Failed")), ADMITTED_WORKLOAD, (FAILED,))) == []


@pytest.mark.parametrize(
    ("counted", "status"),
    [
        (False, {"failed": 1}),  # the Job controller has not counted it yet
        (False, {"failed": 1, "uncountedTerminatedPods": {"failed": ["uid-p2"]}}),
        (True, {"failed": 1, "uncountedTerminatedPods": {"failed": ["uid-p2"]}}),
        (True, {"failed": 2, "uncountedTerminatedPods": {}}),
    ],
)
def test_the_last_failure_is_no_retry_although_earlier_pods_were_deleted(counted: bool, status: dict):
    last = make_pod("Failed", name="p2", created_at=9, started_at=10, terminated={"exitCode": 137}, counted=counted)
    assert retry_details(UnitObjects(make_job(status=status), ADMITTED_WORKLOAD, (last,))) == []
    fewer = {**status, "failed": status["failed"] - 1}
    assert retry_details(UnitObjects(make_job(status=fewer), ADMITTED_WORKLOAD, (last,))) == ["p2: exit code 137"]


def test_a_worker_stopped_by_sigterm_does_not_count_against_the_backoff_limit():
    stopped = make_pod("Failed", started_at=4, terminated={"exitCode": 143})
    assert retry_details(UnitObjects(make_job(), ADMITTED_WORKLOAD, (stopped,))) == ["p1: exit code 143"]
    later = make_pod("Failed", name="p2", created_at=9, started_at=10, terminated={"exitCode": 137})
    assert retry_details(UnitObjects(make_job(), ADMITTED_WORKLOAD, (stopped, later))) == [
        "p1: exit code 143",
        "p2: exit code 137",
    ]


def test_a_disruption_is_a_retry_and_the_deletion_of_a_suspended_pod_is_not():
    disrupted = make_condition("DisruptionTarget", reason="DeletionByPodGC", message="node is gone", second=8)
    assert retry_details(
        UnitObjects(make_job(), ADMITTED_WORKLOAD, (make_pod("Failed", disrupted, started_at=4, deleted=True),))
    ) == ["p1: DeletionByPodGC: node is gone"]
    assert (
        retry_details(
            UnitObjects(
                make_job(),
                ADMITTED_WORKLOAD,
                (make_pod("Failed", started_at=4, terminated={"exitCode": 143}, deleted=True),),
            )
        )
        == []
    )


def test_a_milestone_has_the_same_key_at_every_observation():
    early, late = (
        list_milestones(UNIT, RUNNING),
        list_milestones(UNIT, UnitObjects(RUNNING.job, make_workload(evictions=1), RUNNING.pods)),
    )
    assert event_key(early[-1]) == event_key(late[-1])  # one pod runs once, whatever the attempt is counted as later
    assert len({event_key(event) for event in early}) == len(early)
