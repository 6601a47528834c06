"""Runs for tests of the driver: recordings without audio, whose pods are simulated by KWOK.

KWOK ends a pod after a fixed time; `FakeWorkers` writes what a real worker would have left in the output folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from epp.clock import SystemClock
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import RunStatus
from epp_batch.spec import (
    WORK_ORDER_VARIABLE,
    ClusterOptions,
    Placement,
    Recording,
    Run,
    Task,
    TranscriptionOptions,
    Unit,
    Volume,
    WorkOrder,
)
from epp_batch.timeline import TimelineEvent
from tests.kube.cluster.client import JOBS, PODS, KubeApi, Object

RECORDING_SECONDS = 60.0  # length of each recording


def make_task(folder: Path, name: str) -> Task:
    digest = hashlib.sha256(name.encode()).hexdigest()
    recording = Recording(source=str(folder / f"{name}.wav"), stems=(name,), sha256=digest, seconds=RECORDING_SECONDS)
    return Task(recording=recording, model="tiny")


def make_run(
    name: str, folder: Path, namespace: str, names: Iterable[str], *, queue: str = "lq", **cluster: object
) -> Run:
    """A run with one unit per name, each on one GPU."""
    options = TranscriptionOptions()
    tasks = [make_task(folder, each) for each in names]
    units = tuple(Unit(name=f"{name}-{each.key(options)}", tasks=(each,)) for each in tasks)
    return Run(
        name=name,
        output=str(folder),
        options=options,
        units=units,
        cluster=ClusterOptions(
            namespace=namespace,
            queue=queue,
            image="none",
            volumes=(Volume(source=f"host{folder}", mount=str(folder), local=str(folder)),),
            placements={"*": Placement(accelerator="gpu")},
            **cluster,  # type: ignore[arg-type]
        ),
    )


def make_result(task: Task, options: TranscriptionOptions) -> TranscriptionResult:
    return TranscriptionResult(
        key=task.key(options),
        source=task.recording.source,
        sha256=task.recording.sha256,
        model=task.model,
        options=options,
        audio_seconds=task.recording.seconds or 0.0,
    )


class FakeWorkers:
    """Writes the results of succeeded pods into the output folder."""

    def __init__(self, api: KubeApi, namespace: str, folder: Path) -> None:
        self._api, self._namespace, self._folder = api, namespace, OutputFolder(folder)

    async def run(self) -> None:
        """Watches pods until cancelled."""
        while True:
            async with aclosing(self._api.watch(PODS, self._namespace)) as events:
                async for kind, pod in events:
                    if kind != "DELETED" and pod.get("status", {}).get("phase") == "Succeeded":
                        self._write(pod)

    def _write(self, pod: Object) -> None:
        variables = {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}
        order = msgspec.json.decode(variables[WORK_ORDER_VARIABLE], type=WorkOrder)
        for each in order.tasks:
            path = self._folder.path(each.stem, "done.json")
            if not path.exists():
                path.write_bytes(msgspec.json.encode(make_result(each, order.options)))


class AcceleratedClock(SystemClock):
    """A clock that runs 20 times as fast, for grace periods."""

    def __init__(self) -> None:
        self._start = SystemClock.wall()

    def wall(self) -> float:
        return self._start + 20 * (SystemClock.wall() - self._start)


class RecordingView:
    """A view that stores what it is given."""

    def __init__(self, on_status: Callable[[RunStatus], None] = lambda _: None) -> None:
        self.events: list[TimelineEvent] = []
        self.failures: list[TaskFailure] = []
        self.statuses: list[RunStatus] = []
        self._on_status = on_status

    def on_event(self, event: TimelineEvent) -> None:
        self.events.append(event)

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        """Not stored."""

    def on_failure(self, failure: TaskFailure) -> None:
        self.failures.append(failure)

    def on_status(self, status: RunStatus) -> None:
        self.statuses.append(status)
        self._on_status(status)

    def close(self) -> None:
        """Stores nothing."""

    def event_kinds(self, unit: str) -> list[str]:
        return [event.kind for event in self.events if event.unit == unit]


async def list_job_names(api: KubeApi, namespace: str) -> list[str]:
    return sorted(job["metadata"]["name"] for job in await api.list(JOBS, namespace))


def write_run(run: Run) -> OutputFolder:
    folder = OutputFolder(run.output)
    folder.save_run(run)
    return folder
