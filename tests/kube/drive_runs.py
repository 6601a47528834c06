"""Runs for tests of the driver: recordings that exist by name only, on KWOK nodes, whose work this module plays.

KWOK ends a pod by its clock; what a real worker leaves in the output folder is written by `Workers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import msgspec

from epp.clock import SystemClock
from epp_batch.output_folder import Failure, Folder, Result
from epp_batch.progress_view import Standing
from epp_batch.spec import ORDER_VARIABLE, Cluster, Options, Order, Placement, Recording, Run, Task, Unit, Volume
from epp_batch.timeline import Event
from tests.kube.cluster.client import JOBS, PODS, Api, Object

SECONDS = 60.0  # length of each recording


def task(folder: Path, name: str) -> Task:
    digest = hashlib.sha256(name.encode()).hexdigest()
    recording = Recording(source=str(folder / f"{name}.wav"), stems=(name,), sha256=digest, seconds=SECONDS)
    return Task(recording=recording, model="tiny")


def run(name: str, folder: Path, namespace: str, names: Iterable[str], *, queue: str = "lq", **cluster: object) -> Run:
    """One unit a name, of one GPU each."""
    options = Options()
    tasks = [task(folder, each) for each in names]
    units = tuple(Unit(name=f"{name}-{each.key(options)}", tasks=(each,)) for each in tasks)
    return Run(
        name=name,
        output=str(folder),
        options=options,
        units=units,
        cluster=Cluster(
            namespace=namespace,
            queue=queue,
            image="none",
            volumes=(Volume(source=f"host{folder}", mount=str(folder), local=str(folder)),),
            placements={"*": Placement(accelerator="gpu")},
            **cluster,  # type: ignore[arg-type]
        ),
    )


def result(task: Task, options: Options) -> Result:
    return Result(
        key=task.key(options),
        source=task.recording.source,
        sha256=task.recording.sha256,
        model=task.model,
        options=options,
        audio_seconds=task.recording.seconds or 0.0,
    )


class Workers:
    """Writes what the workers of succeeding pods would have written, once a pod is over."""

    def __init__(self, api: Api, namespace: str, folder: Path) -> None:
        self._api, self._namespace, self._folder = api, namespace, Folder(folder)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            async with aclosing(self._api.watch(PODS, self._namespace)) as events:
                async for kind, pod in events:
                    if kind != "DELETED" and pod.get("status", {}).get("phase") == "Succeeded":
                        self._write(pod)

    def _write(self, pod: Object) -> None:
        variables = {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}
        order = msgspec.json.decode(variables[ORDER_VARIABLE], type=Order)
        for each in order.tasks:
            path = self._folder.path(each.stem, "done.json")
            if not path.exists():
                path.write_bytes(msgspec.json.encode(result(each, order.options)))


class Hasty(SystemClock):
    """Twenty seconds a second, for what only waits for time to pass."""

    def __init__(self) -> None:
        self._start = SystemClock.wall()

    def wall(self) -> float:
        return self._start + 20 * (SystemClock.wall() - self._start)


class Notes:
    """A view that keeps everything."""

    def __init__(self, on_tick: Callable[[Standing], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self.failures: list[Failure] = []
        self.ticks: list[Standing] = []
        self._on_tick = on_tick

    def event(self, event: Event) -> None:
        self.events.append(event)

    def progress(self, unit: str, audio_seconds: float) -> None:
        """Not looked at."""

    def failure(self, failure: Failure) -> None:
        self.failures.append(failure)

    def tick(self, state: Standing) -> None:
        self.ticks.append(state)
        self._on_tick(state)

    def close(self) -> None:
        """Nothing to do."""

    def kinds(self, unit: str) -> list[str]:
        return [event.kind for event in self.events if event.unit == unit]


async def job_names(api: Api, namespace: str) -> list[str]:
    return sorted(job["metadata"]["name"] for job in await api.list(JOBS, namespace))


def write_run(run: Run) -> Folder:
    folder = Folder(run.output)
    folder.save_run(run)
    return folder
