"""The planner's model of Kueue decides as real Kueue does: who is admitted, who is preempted, why, after each step.

There are no nodes: pods stay unbound, a Job ends because the test says so. All scenarios run side by side.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.planner import objects
from epp_batch.planner.planned_job import AcceleratorRequest, PlannedJob
from tests.kube.cluster.client import JOBS, PODS, WORKLOADS, Api, Object
from tests.kube.cluster.objects import container, holds, job, reason
from tests.kube.cluster.plane import Plane
from tests.kube.cluster.queues import Queues
from tests.kube.planner_scenarios import GPU, SCENARIOS, VERSION, Finish, Scenario, Submit, invented
from tests.unit.epp_batch.planner.builders import KueueRig

SEEDS = [int(seed) for seed in os.environ.get("PLANNER_SEEDS", "1,2").split(",")]
LIMIT = 60.0
Told = list[list[str]]


class Model:
    """The planner, told the same story."""

    def __init__(self, scenario: Scenario) -> None:
        world = objects.build_cluster_model(scenario.objects("n", "f"))
        assert world.kueue is not None
        self.scenario = scenario
        self.rig = KueueRig(world.kueue)

    def running(self, name: str) -> bool:
        workload = self.rig.workloads.get(name)
        return workload is not None and bool(workload.usage)

    def step(self, step: Submit | Finish) -> list[str]:
        before = len(self.rig.reasons)
        if isinstance(step, Finish):
            told = self.rig.finish_job(step.job) if self.running(step.job) else []
        else:
            told = self.rig.submit_jobs(self._demand(step))
        reasons = iter(self.rig.reasons[before:])
        return sorted(f"{name} {next(reasons)}" if name.startswith("-") else name for name in told)

    def _demand(self, step: Submit) -> PlannedJob:
        return PlannedJob(
            unit=step.job, model="m", local_queue=f"{self.scenario.name}-{step.queue}", priority=step.priority,
            accelerator=AcceleratorRequest(gpu_count=step.gpus), gpu_slots=8 * step.gpus, requests={GPU: step.gpus},
            startup_seconds=0, work_seconds=1,
        )  # fmt: skip


class Real:
    """Kueue, watched."""

    def __init__(self, plane: Plane, api: Api, namespace: str) -> None:
        self.plane, self.api, self.namespace = plane, api, namespace
        self.told: dict[str, list[str]] = {}
        self._reserved: set[str] = set()
        self._preempted: set[str] = set()
        self._seen: set[str] = set()

    async def follow(self) -> None:
        """Notes what happens to every Workload, in the order in which the API server tells it."""
        async for kind, workload in self.api.watch(WORKLOADS, self.namespace):
            if kind in {"ADDED", "MODIFIED"}:
                self._note(workload)

    def _note(self, workload: Object) -> None:
        name = workload["metadata"]["ownerReferences"][0]["name"]
        scenario, _, short = name.partition("--")
        told = self.told.setdefault(scenario, [])
        self._seen.add(name)
        if _turned(holds(workload, "Preempted"), name, self._preempted):
            told.append(f"-{short} {reason(workload, 'Preempted')}")
        if _turned(holds(workload, "QuotaReserved"), name, self._reserved):
            told.append(short)

    async def step(self, scenario: Scenario, step: Submit | Finish, runs: bool, expected: int) -> list[str]:
        """One step; waits until as much has happened as is expected, and returns what has.

        What nobody expects shows in a later step: Kueue writes no word about a Workload that it leaves untried.
        """
        name = f"{scenario.name}--{step.job}"
        before = len(self.told.setdefault(scenario.name, []))
        await self._next_second()
        if isinstance(step, Submit):
            main = container(devices={GPU: step.gpus})
            queue, priority = f"{scenario.name}-{step.queue}", f"{self.namespace}-p{step.priority}"
            await self.api.create(job(name, self.namespace, main, queue=queue, priority=priority))
        elif runs:
            await self._finish(name)

        async def happened() -> bool:
            seen = name in self._seen if isinstance(step, Submit) else True
            return seen and len(self.told[scenario.name]) - before >= expected

        try:
            await self.plane.until(f"{step} of {scenario.name}", happened, LIMIT)
        except TimeoutError:
            return [*sorted(self.told[scenario.name][before:]), "and then nothing"]
        return sorted(self.told[scenario.name][before:])

    async def _next_second(self) -> None:
        """Kueue orders by times of whole seconds, and by chance within one."""
        this = int(SystemClock.wall())

        async def passed() -> bool:
            return SystemClock.wall() >= this + 1

        await self.plane.until("a new second", passed)

    async def _finish(self, name: str) -> None:
        async def pod() -> Object | None:
            label = f"batch.kubernetes.io/job-name={name}"
            pods = await self.api.list(PODS, self.namespace, labelSelector=label)
            return next((p for p in pods if "deletionTimestamp" not in p["metadata"]), None)

        found = await self.plane.until(f"a pod of {name}", pod)
        await self.api.patch(
            PODS, found["metadata"]["name"], {"status": {"phase": "Succeeded"}}, self.namespace, part="status"
        )

        async def complete() -> bool:
            return holds(await self.api.get(JOBS, name, self.namespace), "Complete")

        await self.plane.until(f"{name} is complete", complete)


def _turned(now: bool, name: str, known: set[str]) -> bool:
    """Whether a condition has just become true."""
    new = now and name not in known
    (known.add if now else known.discard)(name)
    return new


@pytest_asyncio.fixture
async def real(plane: Plane, api: Api, namespace: str) -> AsyncIterator[Real]:
    real, tasks = Real(plane, api, namespace), Tasks("planner-agrees")
    tasks.supervise("follow", real.follow)
    yield real
    await tasks.close()


@pytest.mark.timeout(300)
async def test_the_model_decides_as_kueue_does(real: Real, api: Api, namespace: str, queues: Queues) -> None:
    flavor = await queues.flavor()
    for priority in range(10):
        await queues.priority(f"p{priority}", priority)
    scenarios = [*SCENARIOS, *(invented(seed) for seed in SEEDS)]
    made = [entry for scenario in scenarios for entry in scenario.objects(namespace, flavor)]
    try:
        await api.apply(*made)
        told = await asyncio.gather(*(_play(real, scenario) for scenario in scenarios))
    finally:
        for kind in ("LocalQueue", "ClusterQueue", "Cohort"):
            for entry in made:
                if entry["kind"] == kind:
                    place = entry["metadata"]
                    found = await api.kind({"apiVersion": VERSION, "kind": kind})
                    await api.delete(found, place["name"], place.get("namespace", ""))
    for scenario, (model, kueue) in zip(scenarios, told, strict=True):
        story = [f"{step.job} {'submitted' if isinstance(step, Submit) else 'ends'}" for step in scenario.steps]
        assert dict(zip(story, model, strict=False)) == dict(zip(story, kueue, strict=False)), scenario.name
    assert sum(name.startswith("-") for model, _ in told for step in model for name in step) > 10


async def _play(real: Real, scenario: Scenario) -> tuple[Told, Told]:
    """Both, step by step, until they part."""
    model, ours, theirs = Model(scenario), [], []
    for step in scenario.steps:
        runs = model.running(step.job)
        ours.append(model.step(step))
        theirs.append(await real.step(scenario, step, runs, len(ours[-1])))
        if ours[-1] != theirs[-1]:
            break
    return ours, theirs
