"""`submit --no-follow`: one reconciliation of every unit, on an API server in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from epp_batch.controller.drive import create_missing_jobs
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult, save_struct
from epp_batch.spec import ClusterOptions, Placement, Recording, Run, Task, TranscriptionOptions, Unit, Volume
from tests.unit.epp_batch.controller.fake_api import FakeApi

JOBS = "/apis/batch/v1/namespaces/ns/jobs"
COMPLETE, FAILED = {"type": "Complete", "status": "True"}, {"type": "Failed", "status": "True"}


def make_run(folder: Path, *, queue: str = "lq") -> Run:
    task = Task(recording=Recording(source=str(folder / "a.wav"), stems=("a",), sha256="a"), model="tiny")
    volume = Volume(source=f"host{folder}", mount=str(folder), local=str(folder))
    cluster = ClusterOptions(
        namespace="ns", queue=queue, image="i", volumes=(volume,), placements={"*": Placement(accelerator="gpu")}
    )
    units = (Unit(name="r-1", tasks=(task,)),)
    return Run(name="r", output=str(folder), options=TranscriptionOptions(), units=units, cluster=cluster)


def save_result(run: Run, folder: OutputFolder, *, size: int) -> None:
    task = run.units[0].tasks[0]
    folder.path("a", "txt").write_text("hello")
    result = TranscriptionResult(
        key=task.key(run.options), source="s", sha256="a", model="tiny", options=run.options, audio_seconds=1.0,
        files={"txt": size},
    )  # fmt: skip
    save_struct(folder.path("a", "done.json"), result)


def save_permanent_failure(run: Run, folder: OutputFolder) -> None:
    key = run.units[0].tasks[0].key(run.options)
    failure = TaskFailure(
        key=key, source="s", stage="decode", kind="corrupt", message="m", remedy="r", permanent=True
    )  # fmt: skip
    save_struct(folder.path("a", "failed.json"), failure)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    return OutputFolder(tmp_path)


async def submit(api: FakeApi, run: Run, folder: OutputFolder, *, retry_failed: bool = False) -> tuple[int, list[str]]:
    """Number of created Jobs, and the requests."""
    api.requests.clear()
    created = await create_missing_jobs(run, folder, client=api, retry_failed=retry_failed)  # type: ignore[arg-type]
    return created, [request.replace(JOBS, "jobs") for request in api.requests]


async def test_a_missing_job_is_created_once(api: FakeApi, folder: OutputFolder):
    run = make_run(folder.root)
    assert await submit(api, run, folder) == (1, ["POST jobs/r-1"])
    assert await submit(api, run, folder) == (0, [])


async def test_a_finished_recording_needs_no_job(api: FakeApi, folder: OutputFolder):
    run = make_run(folder.root)
    save_result(run, folder, size=5)
    assert await submit(api, run, folder) == (0, [])


async def test_a_recording_with_a_permanent_failure_needs_retry_failed(api: FakeApi, folder: OutputFolder):
    run = make_run(folder.root)
    save_permanent_failure(run, folder)
    assert await submit(api, run, folder) == (0, [])
    assert await submit(api, run, folder, retry_failed=True) == (1, ["POST jobs/r-1"])


async def test_a_failed_job_is_replaced_with_retry_failed(api: FakeApi, folder: OutputFolder):
    run = make_run(folder.root)
    await submit(api, run, folder)
    api.set_status(f"{JOBS}/r-1", conditions=[FAILED])
    assert await submit(api, run, folder) == (0, [])
    assert await submit(api, run, folder, retry_failed=True) == (1, ["DELETE jobs/r-1", "POST jobs/r-1"])


async def test_a_complete_job_is_replaced_if_its_transcript_is_damaged(api: FakeApi, folder: OutputFolder):
    run = make_run(folder.root)
    await submit(api, run, folder)
    api.set_status(f"{JOBS}/r-1", conditions=[COMPLETE])
    assert await submit(api, run, folder) == (0, [])  # workers may not share this folder
    save_result(run, folder, size=4)
    assert await submit(api, run, folder) == (1, ["DELETE jobs/r-1", "POST jobs/r-1"])


async def test_a_waiting_job_with_another_spec_is_replaced(api: FakeApi, folder: OutputFolder):
    await submit(api, make_run(folder.root), folder)
    other = make_run(folder.root, queue="other")
    assert await submit(api, other, folder) == (1, ["DELETE jobs/r-1", "POST jobs/r-1"])
