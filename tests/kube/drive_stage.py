"""A run that is being driven, on pods that are processes and do what the test plays."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.controller.drive import Outcome, drive
from epp_batch.kube.client import Client
from epp_batch.spec import Run
from tests.kube.cluster.client import PODS, Api
from tests.kube.cluster.plane import Plane
from tests.kube.drive_runs import Notes, write_run

WORKER = {"none": [sys.executable, str(Path(__file__).parent / "workers" / "obeys.py")]}


class Stage:
    """A run that is being driven, and the play of its workers."""

    def __init__(self, plane: Plane, api: Api, client: Client, namespace: str, folder: Path) -> None:
        self.plane, self.api, self.client, self.namespace, self.folder = plane, api, client, namespace, folder
        self.notes = Notes()
        self.tasks = Tasks("test")

    def drive(self, ours: Run, **more: object) -> asyncio.Task[Outcome]:
        """A driver in the background."""
        folder = write_run(ours)
        self.run = ours
        more = {"connection": self.client, "clock": SystemClock(), "tasks": self.tasks, "view": self.notes, **more}
        return self.tasks.spawn("driver", drive(ours, folder, **more))  # type: ignore[arg-type]

    def play(self, stem: str, words: str) -> None:
        path = self.folder / f"{stem}.play"
        path.with_suffix(".new").write_text(words)
        path.with_suffix(".new").rename(path)

    def starts(self, stem: str) -> int:
        path = self.folder / f"{stem}.starts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def started(self, stem: str, times: int = 1) -> None:
        async def enough() -> bool:
            return self.starts(stem) >= times

        await self.plane.until(f"{stem} has started {times} times", enough)

    async def told(self, kind: str, *stems: str) -> str:
        """The first of `stems` of which this is told."""

        async def seen() -> str | None:
            return next((stem for stem in stems if kind in self.notes.kinds(self.unit(stem))), None)

        return await self.plane.until(f"one of {stems} is told as {kind}", seen)

    async def pod(self, stem: str) -> str:
        """Its running pod; the process may be there a moment before."""

        async def runs() -> str | None:
            pods = await self.api.list(PODS, self.namespace, labelSelector=f"epp-batch/unit={self.unit(stem)}")
            return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), None)

        return await self.plane.until(f"a pod of {stem} runs", runs)

    def unit(self, stem: str) -> str:
        return next(unit.name for unit in self.run.units if unit.tasks[0].stem == stem)

    def details(self, stem: str, kind: str) -> list[str]:
        return [event.detail for event in self.notes.events if (event.unit, event.kind) == (self.unit(stem), kind)]
