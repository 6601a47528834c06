"""One-shot listing of a run's objects."""

from __future__ import annotations

import pytest

from epp_batch.controller.run_status import list_run_objects
from epp_batch.kube.client import KubeObject
from epp_batch.kube.resources import KueueResources
from epp_batch.manifests.jobs import RUN_LABEL
from tests.unit.epp_batch.controller.fake_api import FakeApi

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
