"""Builders of Jobs, Workloads and pods, with second 0 at T0."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from epp_batch.controller.unit_status import UnitObjects
from epp_batch.kube.objects import Job, Pod, Workload
from epp_batch.kube.resources import JOB_TRACKING_FINALIZER

UNIT = "r-1"
T0 = 1_800_000_000


def timestamp(second: float) -> str:
    return datetime.fromtimestamp(T0 + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_condition(
    kind: str, status: str = "True", reason: str = "", message: str = "", second: float = 0
) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(second),
    }


def make_job(*conditions: dict[str, Any], uid: str = "u1", deleted: bool = False, **more: Any) -> Job:
    meta = {"name": UNIT, "uid": uid, "creationTimestamp": timestamp(0), "annotations": more.pop("annotations", {})}
    if deleted:
        meta["deletionTimestamp"] = timestamp(9)
    status = {"conditions": list(conditions), **more.pop("status", {})}
    return msgspec.convert({"metadata": meta, "spec": {"backoffLimit": 1, **more}, "status": status}, Job)


def make_workload(
    *conditions: dict[str, Any], active: bool = True, evictions: int = 0, reason: str = "Preempted", **more: Any
) -> Workload:
    stats = {"evictions": [{"reason": reason, "underlyingCause": more.pop("cause", ""), "count": evictions}]}
    meta = {
        "name": f"job-{UNIT}-abcde",
        "creationTimestamp": timestamp(1),
        "annotations": more.pop("annotations", {}),
        "ownerReferences": [{"kind": "Job", "name": UNIT, "uid": "u1"}],
    }
    status = {"conditions": list(conditions), **({"schedulingStats": stats} if evictions else {})}
    return msgspec.convert({"metadata": meta, "spec": {"active": active}, "status": status}, Workload)


def make_pod(
    phase: str,
    *conditions: dict[str, Any],
    name: str = "p1",
    created_at: float = 3,
    started_at: float | None = None,
    terminated: dict[str, Any] | None = None,
    deleted: bool = False,
    waiting: dict[str, Any] | None = None,
    counted: bool = True,
) -> Pod:
    """A pod of UNIT. `terminated` and `waiting` are fields of the container's state, which is running with `started_at`
    alone; a pod that is not `counted` has the Job controller's finalizer.
    """
    state: dict[str, Any] = {}
    if waiting is not None:
        state = {"waiting": waiting}
    elif terminated is not None:
        start = started_at or 0
        state = {"terminated": {"startedAt": timestamp(start), "finishedAt": timestamp(start + 5), **terminated}}
    elif started_at is not None:
        state = {"running": {"startedAt": timestamp(started_at)}}
    meta: dict[str, Any] = {"name": name, "uid": f"uid-{name}", "creationTimestamp": timestamp(created_at)}
    meta["finalizers"] = [] if counted else [JOB_TRACKING_FINALIZER]
    if deleted:
        meta["deletionTimestamp"] = timestamp(9)
    status = {"phase": phase, "conditions": list(conditions), "containerStatuses": [{"name": "worker", "state": state}]}
    return msgspec.convert({"metadata": meta, "spec": {"nodeName": "n1"}, "status": status}, Pod)


RESERVED, ADMITTED = make_condition("QuotaReserved", second=2), make_condition("Admitted", second=2)
RUNNING = UnitObjects(make_job(), make_workload(RESERVED, ADMITTED), (make_pod("Running", started_at=4),))
