"""What Jobs, Workloads and Pods say, as far as we read it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from epp_batch.kube.objects import Job, Pod, Workload


def decode(kind: type, **fields: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode({"metadata": {"name": "n"}, **fields}), type=kind)


@pytest.mark.parametrize(
    ("conditions", "finished"),
    [
        (None, False),
        ([{"type": "Complete", "status": "True"}], True),
        ([{"type": "Failed", "status": "True"}], True),
        ([{"type": "Complete", "status": "False"}], False),
        ([{"type": "FailureTarget", "status": "True"}, {"type": "Suspended", "status": "True"}], False),
    ],
)
def test_a_job_is_finished_by_a_true_condition(conditions: list[dict[str, str]] | None, finished: bool):
    assert decode(Job, status={"conditions": conditions, "active": 1}).is_finished is finished


def test_the_job_of_a_workload_is_its_owner_of_kind_job():
    owners = [{"kind": "Pod", "name": "p"}, {"kind": "Job", "name": "r-1"}]
    assert decode(Workload, metadata={"name": "w", "ownerReferences": owners}).job_name == "r-1"
    assert decode(Workload, metadata={"name": "w", "ownerReferences": owners[:1]}).job_name == ""


def test_evictions_for_any_reason_are_counted():
    stats = {"evictions": [{"reason": "Preempted", "count": 2}, {"reason": "PodsReadyTimeout", "count": 1}]}
    assert decode(Workload, status={"schedulingStats": stats}).eviction_count == 3
    assert decode(Workload).eviction_count == 0


def test_the_state_of_a_container_that_is_not_reported_is_that_of_the_first_or_empty():
    statuses = [
        {"name": "sidecar", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
        {"name": "worker", "state": {"terminated": {"exitCode": 137, "startedAt": "2026-01-02T00:00:00Z"}}},
    ]
    pod = decode(Pod, status={"containerStatuses": statuses})
    assert (pod.container_state("worker").exit_code, pod.container_state("worker").started_at.day) == (137, 2)
    assert (pod.container_state("other").exit_code, pod.container_state("other").started_at.day) == (None, 1)
    assert decode(Pod, status={"containerStatuses": None}).container_state("worker").started_at is None


def test_conditions_are_found_by_type_and_true_ones_by_status():
    pod = decode(Pod, status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})
    assert pod.find_condition("PodScheduled").reason == "Unschedulable"
    assert pod.true_condition("PodScheduled") is None
    assert pod.find_condition("Ready") is None
