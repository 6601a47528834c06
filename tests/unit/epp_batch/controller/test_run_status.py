"""One-shot listing of a run's objects, and queue positions of its Workloads."""

from __future__ import annotations

from typing import Any

import pytest

from epp_batch.controller.queue_positions import list_queue_positions
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.kube.client import KubeObject
from epp_batch.kube.resources import KueueResources
from epp_batch.manifests.jobs import RUN_LABEL
from tests.unit.epp_batch.controller.fake_api import FakeApi
from tests.unit.epp_batch.controller.objects import RUNNING, make_job, make_workload

KUEUE = KueueResources("v1beta2")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def make_object(name: str, uid: str, *, owner_uid: str = "") -> KubeObject:
    owner = {"kind": "Job", "name": "r-1", "uid": owner_uid}
    labels = {RUN_LABEL: "r", "batch.kubernetes.io/job-name": "r-1"}
    return {"metadata": {"name": name, "uid": uid, "labels": labels, "ownerReferences": [owner] if owner_uid else []}}


async def test_objects_of_an_earlier_job_of_the_same_name_are_left_out(api: FakeApi):
    api.objects["/apis/batch/v1/namespaces/ns/jobs/r-1"] = make_object("r-1", "u2")
    for owner_uid in ("u2", "u1"):
        workload = make_object(f"w-{owner_uid}", "", owner_uid=owner_uid)
        api.objects[KUEUE.workloads.path("ns", f"w-{owner_uid}")] = workload
        api.objects[f"/api/v1/namespaces/ns/pods/p-{owner_uid}"] = make_object(
            f"p-{owner_uid}", "", owner_uid=owner_uid
        )
    objects = await list_run_objects(api, KUEUE, "ns", "r")  # type: ignore[arg-type]
    assert list(objects) == ["r-1"]
    assert objects["r-1"].workload is not None
    assert objects["r-1"].workload.metadata.name == "w-u2"
    assert [pod.metadata.name for pod in objects["r-1"].pods] == ["p-u2"]


async def test_positions_are_those_of_the_runs_own_waiting_workloads(api: FakeApi):
    def item(name: str, position: int) -> dict[str, Any]:
        return {"metadata": {"name": name}, "positionInLocalQueue": position}

    waiting = make_workload()
    api.objects[KUEUE.pending_workloads_path("ns", waiting.spec.queue_name)] = {
        "items": [item("another", 0), item(waiting.metadata.name, 1)]
    }
    units = [UnitObjects(make_job(), waiting), RUNNING]
    positions = await list_queue_positions(api, KUEUE, "ns", units)  # type: ignore[arg-type]
    assert positions == {waiting.metadata.name: 2}
    assert await list_queue_positions(FakeApi(), KUEUE, "ns", units) == {}  # type: ignore[arg-type]
