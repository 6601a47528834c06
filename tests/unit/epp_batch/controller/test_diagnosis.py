"""Why a run does not progress, from the statuses of its units."""

from __future__ import annotations

from epp_batch.controller.diagnosis import diagnose_stalls
from epp_batch.controller.unit_status import UnitStatus

LONG = 100.0
FULL = UnitStatus("queued", "Pending", "insufficient unused quota for nvidia.com/gpu, 1 more needed")


def diagnose(*states: UnitStatus, waited: float = LONG) -> list[str]:
    return diagnose_stalls({str(index): (state, waited) for index, state in enumerate(states)})


def test_a_wait_for_quota_is_mentioned_only_if_nothing_else_progresses():
    assert diagnose(FULL, UnitStatus("running")) == []
    assert diagnose(FULL, waited=1.0) == []
    assert diagnose(FULL, FULL) == [f"waits in its queue: {FULL.message} (2 Jobs)"]


def test_a_unit_that_can_never_be_admitted_is_mentioned_at_once():
    never = UnitStatus("queued", "Inadmissible", "LocalQueue lq doesn't exist", never_admissible=True)
    [line] = diagnose(never, UnitStatus("running"), waited=0.0)
    assert line.startswith("can never be admitted: LocalQueue lq doesn't exist")


def test_a_pod_that_does_not_start():
    nowhere = UnitStatus("admitted", "Unschedulable", "0/3 nodes are available")
    pulling = UnitStatus("admitted", "ImagePullBackOff", "no such image")
    assert diagnose(nowhere, pulling, UnitStatus("admitted", "ContainerCreating"), waited=1.0) == []
    assert diagnose(nowhere, nowhere, pulling) == [
        "is admitted, but no node fits the pod: 0/3 nodes are available (2 Jobs)",
        "cannot start: ImagePullBackOff: no such image (1 Job)",
    ]


def test_a_job_without_a_workload():
    assert diagnose(UnitStatus("unknown-to-kueue"), waited=30.0) == []
    assert "is its controller running" in diagnose(UnitStatus("unknown-to-kueue"))[0]


def test_only_the_most_frequent_causes_are_listed():
    lines = diagnose(*(UnitStatus("admitted", "Unschedulable", f"cause {i}") for i in range(6)))
    assert (len(lines), lines[-1]) == (5, "and 2 more causes")
