"""The run's objects by unit, from lists and watches of an API server in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest_asyncio

from epp.tasks import Tasks
from epp_batch.controller.run_informer import RunInformer
from epp_batch.kube.client import KubeObject
from epp_batch.kube.resources import JOB_NAME_LABEL, JOBS, PODS, KueueResources
from epp_batch.manifests.jobs import RUN_LABEL
from tests.unit.epp_batch.controller.fake_api import FakeApi

KUEUE = KueueResources("v1beta2")
JOBS_PATH, PODS_PATH, WORKLOADS_PATH = JOBS.path("ns"), PODS.path("ns"), KUEUE.workloads.path("ns")


def make_job(uid: str = "u1", *, name: str = "r-1", version: int = 1, **status: Any) -> KubeObject:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version), "labels": {RUN_LABEL: "r"}}
    return {"metadata": metadata, "status": status}


def make_child(name: str, owner_uid: str, *, version: int = 1) -> KubeObject:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {RUN_LABEL: "r", JOB_NAME_LABEL: "r-1"},
            "ownerReferences": [{"kind": "Job", "name": "r-1", "uid": owner_uid}],
        }
    }


class InformerHarness:
    """An informer of the units r-1 and r-2, and its API server."""

    def __init__(self) -> None:
        self.api, self.tasks, self.informer = FakeApi(), Tasks("test"), RunInformer(["r-1", "r-2"])

    async def start(self) -> None:
        self.informer.start(self.api, KUEUE, "ns", "r", self.tasks, Random(1))  # type: ignore[arg-type]
        assert await self.informer.wait_for_sync(10)

    async def take_dirty_units(self) -> set[str]:
        async with asyncio.timeout(10):
            while not self.informer.dirty_units:
                await self.informer.wait_for_change(1)
        dirty, self.informer.dirty_units = self.informer.dirty_units, set()
        return dirty


@pytest_asyncio.fixture
async def harness() -> AsyncIterator[InformerHarness]:
    made = InformerHarness()
    yield made
    await made.tasks.close()


async def test_listed_objects_of_the_current_job_are_those_of_the_unit(harness: InformerHarness):
    harness.api.objects[f"{JOBS_PATH}/r-1"] = make_job("u2")
    harness.api.objects[f"{JOBS_PATH}/other"] = make_job("u3", name="other")
    for owner_uid in ("u1", "u2"):
        harness.api.objects[f"{PODS_PATH}/p-{owner_uid}"] = make_child(f"p-{owner_uid}", owner_uid)
    harness.api.objects[f"{WORKLOADS_PATH}/w"] = make_child("w", "u1")
    await harness.start()
    assert await harness.take_dirty_units() == {"r-1"}
    objects = harness.informer.unit_objects("r-1")
    assert [pod.metadata.name for pod in objects.pods] == ["p-u2"]
    assert objects.workload is None, "it belongs to an earlier Job of that name"
    assert harness.informer.unit_objects("r-2").job is None


async def test_a_watched_change_marks_its_unit(harness: InformerHarness):
    harness.api.objects[f"{JOBS_PATH}/r-1"] = make_job()
    await harness.start()
    await harness.take_dirty_units()
    harness.api.send_event(WORKLOADS_PATH, "ADDED", make_child("w", "u1", version=2))
    assert await harness.take_dirty_units() == {"r-1"}
    workload = harness.informer.unit_objects("r-1").workload
    assert workload is not None
    assert workload.metadata.name == "w"
    harness.api.send_event(PODS_PATH, "ADDED", make_child("p", "u1", version=3))
    assert await harness.take_dirty_units() == {"r-1"}
    harness.api.send_event(PODS_PATH, "DELETED", make_child("p", "u1", version=4))
    await harness.take_dirty_units()
    assert harness.informer.unit_objects("r-1").pods == ()


async def test_only_a_deletion_that_is_not_ours_of_a_job_that_runs_is_external(harness: InformerHarness):
    finished = make_job("u2", name="r-2", conditions=[{"type": "Complete", "status": "True"}])
    harness.api.objects |= {f"{JOBS_PATH}/r-1": make_job(), f"{JOBS_PATH}/r-2": finished}
    await harness.start()
    await harness.take_dirty_units()
    harness.api.send_event(
        JOBS_PATH, "DELETED", {**finished, "metadata": finished["metadata"] | {"resourceVersion": "2"}}
    )
    assert await harness.take_dirty_units() == {"r-2"}
    assert harness.informer.deleted_externally == set()
    harness.api.send_event(JOBS_PATH, "DELETED", make_job(version=3))
    assert await harness.take_dirty_units() == {"r-1"}
    assert harness.informer.deleted_externally == {"r-1"}
    harness.informer.record_created(make_job("u4", version=4))
    assert harness.informer.deleted_externally == set()
    harness.informer.record_deleting("u4")
    harness.informer.dirty_units.clear()
    harness.api.send_event(JOBS_PATH, "DELETED", make_job("u4", version=5))
    assert await harness.take_dirty_units() == {"r-1"}
    assert harness.informer.deleted_externally == set()


async def test_a_created_job_is_known_before_the_watch_delivers_it(harness: InformerHarness):
    await harness.start()
    harness.informer.record_created(make_job())
    assert harness.informer.dirty_units == {"r-1"}
    job = harness.informer.unit_objects("r-1").job
    assert job is not None
    assert job.metadata.uid == "u1"
