"""A driver under test, on pods that are processes and do what the test instructs (workers/scripted.py)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.controller.drive import RunOutcome, drive_run
from epp_batch.kube.client import ApiClient
from epp_batch.spec import Run
from tests.kube.cluster.client import PODS, KubeApi
from tests.kube.cluster.plane import ControlPlane
from tests.kube.drive_runs import RecordingView, write_run

WORKER = {"none": [sys.executable, str(Path(__file__).parent / "workers" / "scripted.py")]}


class DriverHarness:
    """A driver in the background, and control over the workers of its run."""

    def __init__(self, plane: ControlPlane, api: KubeApi, client: ApiClient, namespace: str, folder: Path) -> None:
        self.plane, self.api, self.client, self.namespace, self.folder = plane, api, client, namespace, folder
        self.view = RecordingView()
        self.tasks = Tasks("test")

    def start_driver(self, run: Run, **more: object) -> asyncio.Task[RunOutcome]:
        """Starts a driver of this run; its outcome is the task's result."""
        folder = write_run(run)
        self.run = run
        more = {"client": self.client, "clock": SystemClock(), "tasks": self.tasks, "view": self.view, **more}
        return self.tasks.spawn("driver", drive_run(run, folder, **more))  # type: ignore[arg-type]

    def instruct_worker(self, stem: str, words: str) -> None:
        """Writes the instruction that the stem's worker waits for."""
        path = self.folder / f"{stem}.play"
        path.with_suffix(".new").write_text(words)
        path.with_suffix(".new").rename(path)

    def count_starts(self, stem: str) -> int:
        path = self.folder / f"{stem}.starts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def wait_for_starts(self, stem: str, times: int = 1) -> None:
        async def enough() -> bool:
            return self.count_starts(stem) >= times

        await self.plane.wait_until(f"{stem} has started {times} times", enough)

    async def wait_for_event(self, kind: str, *stems: str) -> str:
        """Waits until one of `stems` has an event of this kind; returns the first that has."""

        async def seen() -> str | None:
            return next((stem for stem in stems if kind in self.view.event_kinds(self.unit_name(stem))), None)

        return await self.plane.wait_until(f"one of {stems} has an event {kind}", seen)

    async def wait_for_running_pod(self, stem: str) -> str:
        """Name of the stem's running pod. Its process may have started a moment before."""

        async def runs() -> str | None:
            pods = await self.api.list(PODS, self.namespace, labelSelector=f"epp-batch/unit={self.unit_name(stem)}")
            return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), None)

        return await self.plane.wait_until(f"a pod of {stem} runs", runs)

    def unit_name(self, stem: str) -> str:
        return next(unit.name for unit in self.run.units if unit.tasks[0].stem == stem)

    def event_details(self, stem: str, kind: str) -> list[str]:
        return [event.detail for event in self.view.events if (event.unit, event.kind) == (self.unit_name(stem), kind)]
