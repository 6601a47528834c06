"""The driver on a real control plane: it creates Jobs, records Kueue's decisions and collects the results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.controller.drive import drive_run
from epp_batch.kube.client import ApiClient, open_client
from epp_batch.timeline import read_events
from tests.kube.cluster.client import KubeApi
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.drive_runs import FakeWorkers, RecordingView, list_job_names, make_run, write_run

GPU = {"nvidia.com/gpu": 1}


@pytest.fixture
async def client(plane: ControlPlane) -> AsyncIterator[ApiClient]:
    async with open_client(str(plane.kubeconfig)) as client:
        yield client


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.close()


@pytest.fixture
async def workers(api: KubeApi, namespace: str, tmp_path: Path, tasks: Tasks) -> FakeWorkers:
    workers = FakeWorkers(api, namespace, tmp_path)
    tasks.spawn("workers", workers.run())
    return workers


async def test_a_run_is_admitted_by_kueue_and_ends_with_transcripts(
    api: KubeApi,
    client: ApiClient,
    tasks: Tasks,
    namespace: str,
    queues: Queues,
    kwok_nodes,
    workers: FakeWorkers,
    tmp_path: Path,
) -> None:
    await kwok_nodes(2, GPU)
    await queues.add_queue("lq", {"nvidia.com/gpu": 2})
    ours = make_run("r", tmp_path, namespace, ["a", "b", "c"])
    folder = write_run(ours)
    view, transcribed = RecordingView(), []
    outcome = await drive_run(
        ours,
        folder,
        client=client,
        clock=SystemClock(),
        tasks=tasks,
        view=view,
        on_transcript=lambda task, _: transcribed.append(task.stem),
    )
    assert (sorted(outcome.done), outcome.failed, outcome.cancelled, outcome.exit_code) == (["a", "b", "c"], [], [], 0)
    assert sorted(transcribed) == ["a", "b", "c"]
    for unit in ours.units:
        assert view.event_kinds(unit.name) == ["created", "queued", "reserved", "admitted", "running", "finished"]
    assert read_events(folder.events_file) == view.events
    assert await list_job_names(api, namespace) == sorted(unit.name for unit in ours.units)
    assert view.statuses[-1].is_complete
    places = {event.place for event in view.events if event.kind == "running"}
    assert places <= {f"{namespace}-0", f"{namespace}-1"}
