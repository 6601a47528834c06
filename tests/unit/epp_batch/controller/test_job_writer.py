"""JobWriter: repeated and conflicting writes; and that it is the only module that writes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import epp_batch
from epp_batch.controller.job_writer import JobWriter
from epp_batch.kube.errors import Invalid
from epp_batch.kube.objects import Job
from epp_batch.kube.resources import KueueResources
from epp_batch.spec import ClusterOptions, Recording, Run, Task, TranscriptionOptions, Unit, Volume
from tests.unit.epp_batch.controller.fake_api import FakeApi

KUEUE = KueueResources("v1beta2")
JOB_PATH = "/apis/batch/v1/namespaces/ns/jobs/r-1"


def make_run(folder: Path, name: str = "r") -> Run:
    task = Task(recording=Recording(source=str(folder / "a.wav"), stems=("a",)), model="tiny")
    volume = Volume(source=f"host{folder}", mount=str(folder), local=str(folder))
    cluster = ClusterOptions(namespace="ns", queue="lq", image="i", volumes=(volume,))
    units = (Unit(name="r-1", tasks=(task,)),)
    return Run(name=name, output=str(folder / "out"), options=TranscriptionOptions(), units=units, cluster=cluster)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def writer(api: FakeApi) -> JobWriter:
    return JobWriter(api, "ns")  # type: ignore[arg-type]


async def test_creating_a_job_twice_returns_the_existing_one(api: FakeApi, writer: JobWriter, tmp_path: Path):
    run = make_run(tmp_path)
    created = await writer.create_job(run.units[0], run)
    assert await writer.create_job(run.units[0], run) == created
    assert api.requests == [f"POST {JOB_PATH}"]


async def test_a_job_of_another_run_is_not_taken_over(writer: JobWriter, tmp_path: Path):
    run = make_run(tmp_path)
    await writer.create_job(run.units[0], run)
    with pytest.raises(Invalid, match="belongs to another run; give this run another name with --run"):
        await writer.create_job(run.units[0], make_run(tmp_path, "other"))


async def test_validation_stores_nothing(api: FakeApi, writer: JobWriter, tmp_path: Path):
    run = make_run(tmp_path)
    await writer.validate_job(run.units[0], run)
    await writer.create_job(run.units[0], run)
    await writer.validate_job(run.units[0], run)
    assert api.requests == [f"POST {JOB_PATH}"]


async def test_a_newer_job_of_the_same_name_is_not_deleted(api: FakeApi, writer: JobWriter, tmp_path: Path):
    run = make_run(tmp_path)
    await writer.create_job(run.units[0], run)
    await writer.delete_job("r-1", "older")
    assert list(api.objects) == [JOB_PATH]
    [job] = [msgspec.convert(found, Job) for found in api.objects.values()]
    await writer.delete_jobs([job, job], wait=True)
    assert api.objects == {}


async def test_pause_and_resume_set_the_activity_and_the_annotation(api: FakeApi, writer: JobWriter):
    path = KUEUE.workloads.path("ns", "w")
    api.objects[path] = {"metadata": {"name": "w"}}
    await writer.set_workload_active(KUEUE, "w", active=False)
    assert api.objects[path]["spec"] == {"active": False}
    assert api.objects[path]["metadata"] == {"annotations": {"epp-batch/paused": "true"}}
    await writer.set_workload_active(KUEUE, "w", active=True)
    assert api.objects[path]["spec"] == {"active": True}
    assert api.objects[path]["metadata"] == {"annotations": {"epp-batch/paused": None}}  # a merge patch removes it
    await writer.set_workload_active(KUEUE, "deleted", active=False)


def test_no_other_module_writes_to_the_api_server():
    root = Path(epp_batch.__file__).parent
    write = re.compile(r"\.(create|delete|patch)\(")
    writers = {str(path.relative_to(root)) for path in root.rglob("*.py") if write.search(path.read_text())}
    # queues --apply creates Kueue's objects; summaries/client.py calls the LLM's `completions.create`.
    assert writers == {"controller/job_writer.py", "cli/queues.py", "summaries/client.py"}
