"""Status of a unit, from its Job, its Workload and its pods."""

from __future__ import annotations

import pytest

from epp_batch.controller.unit_status import UnitObjects, derive_unit_status
from tests.unit.epp_batch.controller.objects import (
    ADMITTED,
    RESERVED,
    RUNNING,
    make_condition,
    make_job,
    make_pod,
    make_workload,
)

OVER_CAPACITY = "insufficient quota for nvidia.com/gpu in flavor f, request (9) > maximum capacity (8)"


def pending(reason: str, message: str = "") -> UnitObjects:
    return UnitObjects(make_job(), make_workload(make_condition("QuotaReserved", "False", reason, message)))


@pytest.mark.parametrize(
    ("objects", "phase"),
    [
        (UnitObjects(), "absent"),
        (UnitObjects(make_job()), "unknown-to-kueue"),
        (UnitObjects(make_job(deleted=True), make_workload()), "deleting"),
        (UnitObjects(make_job(), make_workload()), "queued"),
        (pending("Pending"), "queued"),
        (UnitObjects(make_job(), make_workload(RESERVED)), "reserved"),
        (UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)), "admitted"),
        (UnitObjects(make_job(), make_workload(RESERVED, ADMITTED), (make_pod("Pending"),)), "admitted"),
        (
            UnitObjects(
                make_job(), make_workload(RESERVED, ADMITTED), (make_pod("Failed", terminated={"exitCode": 1}),)
            ),
            "admitted",
        ),
        (RUNNING, "running"),
        (UnitObjects(make_job(make_condition("Complete")), make_workload(RESERVED, ADMITTED)), "succeeded"),
        (UnitObjects(make_job(make_condition("Failed", reason="BackoffLimitExceeded")), make_workload()), "failed"),
        (UnitObjects(make_job(make_condition("Complete"), deleted=True)), "succeeded"),
        (UnitObjects(make_job(), make_workload(active=False)), "paused"),
    ],
)
def test_phase_of_a_unit(objects: UnitObjects, phase: str):
    assert derive_unit_status(objects).phase == phase


@pytest.mark.parametrize(
    ("reason", "message", "never_admissible"),
    [
        ("Pending", "couldn't assign flavors: insufficient unused quota, 1 more needed", False),
        ("Pending", OVER_CAPACITY, True),
        ("Inadmissible", "LocalQueue lq doesn't exist", True),
        ("Pending", "resource cpu unavailable in ClusterQueue", True),
        ("ExceedsMaxQuota", "", True),
        ("Suspended", "ClusterQueue cq is inactive", False),
    ],
)
def test_a_request_that_can_never_be_admitted_is_distinguished_from_a_pending_one(
    reason: str, message: str, never_admissible: bool
):
    assert derive_unit_status(pending(reason, message)).never_admissible is never_admissible


def test_a_deactivation_by_kueue_is_not_a_pause():
    stopped = make_workload(active=False, evictions=1, reason="Deactivated", cause="MaximumExecutionTimeExceeded")
    assert derive_unit_status(UnitObjects(make_job(), stopped))[:2] == ("deactivated", "MaximumExecutionTimeExceeded")
    ours = make_workload(
        active=False, evictions=1, reason="Deactivated", annotations={"epp-batch/paused": "true"}, cause="x"
    )
    assert derive_unit_status(UnitObjects(make_job(), ours)).phase == "paused"


def test_the_reason_why_a_pod_does_not_start():
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
