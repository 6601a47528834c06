"""The control loop on an API server in memory; tests/kube/test_drive*.py have the real one."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.controller.drive import drive_run
from epp_batch.kube.client import KubeObject
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import OutputFolder, TranscriptionResult, save_struct
from epp_batch.progress_view.plain import LineView
from epp_batch.spec import ClusterOptions, Placement, Recording, Run, Task, TranscriptionOptions, Unit, Volume
from epp_batch.timeline import read_events
from tests.unit.epp_batch.controller.fake_api import FakeApi
from tests.unit.epp_batch.controller.objects import make_condition, timestamp

OPTIONS = TranscriptionOptions()
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
PODS = "/api/v1/namespaces/ns/pods"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/ns/workloads"
ADMITTED = [make_condition("QuotaReserved"), make_condition("Admitted")]


def make_run(folder: Path, stems: str) -> Run:
    """A run of one unit, a shard with one task per letter of `stems`."""
    tasks = tuple(
        Task(recording=Recording(source=str(folder / f"{stem}.wav"), stems=(stem,), sha256=stem), model="tiny")
        for stem in stems
    )
    volume = Volume(source=f"host{folder}", mount=str(folder), local=str(folder))
    placements = {"*": Placement(accelerator="gpu")}
    cluster = ClusterOptions(namespace="ns", queue="lq", image="i", volumes=(volume,), placements=placements)
    return Run(name="r", output=str(folder), options=OPTIONS, units=(Unit(name="r-1", tasks=tasks),), cluster=cluster)


def make_metadata(name: str, version: int, **more: Any) -> KubeObject:
    owner = {"kind": "Job", "name": "r-1", "uid": "u1"}
    return {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": timestamp(0),
        "labels": {RUN_LABEL: "r", "batch.kubernetes.io/job-name": "r-1"},
        "ownerReferences": [owner],
        **more,
    }


def make_workload(version: int, *conditions: KubeObject, active: bool = True, **status: Any) -> KubeObject:
    spec = {"active": active, "queueName": "lq"}
    return {"metadata": make_metadata("w", version), "spec": spec, "status": {"conditions": list(conditions), **status}}


def add_running_unit(api: FakeApi) -> None:
    running = {"name": "worker", "state": {"running": {"startedAt": timestamp(1)}}}
    api.objects[f"{JOBS}/r-1"] = {"metadata": make_metadata("r-1", 1, uid="u1", ownerReferences=[])}
    api.objects[f"{WORKLOADS}/w"] = make_workload(1, *ADMITTED)
    api.objects[f"{PODS}/p"] = {
        "metadata": make_metadata("p", 1),
        "status": {"phase": "Running", "containerStatuses": [running]},
    }


async def wait_for_event(folder: OutputFolder, kind: str) -> None:
    async with asyncio.timeout(10):
        while not any(event.kind == kind for event in read_events(folder.events_file)):
            await asyncio.sleep(0.01)


async def test_a_transcript_that_precedes_the_deactivation_of_its_unit_is_a_result(tmp_path: Path):
    api, folder, run = FakeApi(), OutputFolder(tmp_path), make_run(tmp_path, "ab")
    add_running_unit(api)
    tasks, out = Tasks("test"), io.StringIO()
    driving = tasks.spawn(
        "driver",
        drive_run(run, folder, client=api, clock=SystemClock(), tasks=tasks, view=LineView(out, out)),  # type: ignore[arg-type]
    )
    try:
        await wait_for_event(folder, "running")
        finished, _ = run.units[0].tasks
        result = TranscriptionResult(
            key=finished.key(OPTIONS), source="s", sha256="a", model="tiny", options=OPTIONS, audio_seconds=1.0
        )
        save_struct(folder.path("a", "done.json"), result)
        stats = {
            "evictions": [{"reason": "Deactivated", "underlyingCause": "MaximumExecutionTimeExceeded", "count": 1}]
        }
        stopped = make_workload(2, make_condition("Evicted", reason="Deactivated"), active=False, schedulingStats=stats)
        api.send_event(WORKLOADS, "MODIFIED", stopped)

        async with asyncio.timeout(10):
            while f"DELETE {JOBS}/r-1" not in api.requests:
                await asyncio.sleep(0.01)
        outcome = await asyncio.wait_for(driving, 10)
    finally:
        await tasks.close()
    assert list(outcome.done) == ["a"]
    assert [(failure.source, failure.kind) for failure in outcome.failed] == [(str(tmp_path / "b.wav"), "timeout")]
    assert folder.load_failure("a") is None
