"""The planner admits and preempts the same workloads as real Kueue, for the same reasons, at each step of a scenario.

There are no nodes: pods stay unbound, and a Job ends when the test marks its pod as succeeded. All scenarios run side
by side.
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
from tests.kube.cluster.client import JOBS, PODS, WORKLOADS, KubeApi, Object
from tests.kube.cluster.objects import build_container, build_job, condition_reason, has_condition
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.planner_scenarios import GPU, SCENARIOS, VERSION, Finish, Scenario, Submit, random_scenario
from tests.unit.epp_batch.planner.builders import KueueRig

SEEDS = [int(seed) for seed in os.environ.get("PLANNER_SEEDS", "1,2").split(",")]
STEP_TIMEOUT = 60.0
Decisions = list[list[str]]
"""For each step, the decisions in alphabetical order: `a` for an admission, `-a REASON` for a preemption."""


class PlannerKueue:
    """Plays a scenario on the planner's KueueScheduler, step by step."""

    def __init__(self, scenario: Scenario) -> None:
        cluster_model = objects.build_cluster_model(scenario.objects("n", "f"))
        assert cluster_model.kueue is not None
        self.scenario = scenario
        self.rig = KueueRig(cluster_model.kueue)

    def holds_quota(self, name: str) -> bool:
        workload = self.rig.workloads.get(name)
        return workload is not None and bool(workload.usage)

    def play(self, step: Submit | Finish) -> list[str]:
        before = len(self.rig.reasons)
        if isinstance(step, Finish):
            decisions = self.rig.finish_job(step.job) if self.holds_quota(step.job) else []
        else:
            decisions = self.rig.submit_jobs(self._planned_job(step))
        reasons = iter(self.rig.reasons[before:])
        return sorted(f"{name} {next(reasons)}" if name.startswith("-") else name for name in decisions)

    def _planned_job(self, step: Submit) -> PlannedJob:
        return PlannedJob(
            unit=step.job, model="m", local_queue=f"{self.scenario.name}-{step.queue}", priority=step.priority,
            accelerator=AcceleratorRequest(gpu_count=step.gpus), gpu_slots=8 * step.gpus, requests={GPU: step.gpus},
            startup_seconds=0, work_seconds=1,
        )  # fmt: skip


class RealKueue:
    """Plays scenarios on a real control plane and records the conditions of their Workloads."""

    def __init__(self, plane: ControlPlane, api: KubeApi, namespace: str) -> None:
        self.plane, self.api, self.namespace = plane, api, namespace
        self.decisions: dict[str, list[str]] = {}
        """By scenario."""
        self._reserved: set[str] = set()
        self._preempted: set[str] = set()
        self._seen: set[str] = set()

    async def watch_workloads(self) -> None:
        """Records every Workload's conditions in the order of the watch."""
        async for kind, workload in self.api.watch(WORKLOADS, self.namespace):
            if kind in {"ADDED", "MODIFIED"}:
                self._record(workload)

    def _record(self, workload: Object) -> None:
        name = workload["metadata"]["ownerReferences"][0]["name"]
        scenario, _, short = name.partition("--")
        decisions = self.decisions.setdefault(scenario, [])
        self._seen.add(name)
        if _became_true(has_condition(workload, "Preempted"), name, self._preempted):
            decisions.append(f"-{short} {condition_reason(workload, 'Preempted')}")
        if _became_true(has_condition(workload, "QuotaReserved"), name, self._reserved):
            decisions.append(short)

    async def play(self, scenario: Scenario, step: Submit | Finish, runs: bool, expected: int) -> list[str]:
        """Plays one step, waits until there are `expected` decisions, and returns the decisions.

        A decision beyond those shows in a later step: there is nothing to wait for, because Kueue writes no condition
        on a Workload that it does not try.
        """
        name = f"{scenario.name}--{step.job}"
        before = len(self.decisions.setdefault(scenario.name, []))
        await self._next_second()
        if isinstance(step, Submit):
            main = build_container(devices={GPU: step.gpus})
            queue, priority = f"{scenario.name}-{step.queue}", f"{self.namespace}-p{step.priority}"
            await self.api.create(build_job(name, self.namespace, main, queue=queue, priority=priority))
        elif runs:
            await self._finish(name)

        async def happened() -> bool:
            seen = name in self._seen if isinstance(step, Submit) else True
            return seen and len(self.decisions[scenario.name]) - before >= expected

        try:
            await self.plane.wait_until(f"{step} of {scenario.name}", happened, STEP_TIMEOUT)
        except TimeoutError:
            return [*sorted(self.decisions[scenario.name][before:]), "timed out"]
        return sorted(self.decisions[scenario.name][before:])

    async def _next_second(self) -> None:
        """Waits, because Kueue orders by timestamps in whole seconds, and by UID within one."""
        second = int(SystemClock.wall())

        async def passed() -> bool:
            return SystemClock.wall() >= second + 1

        await self.plane.wait_until("the next second", passed)

    async def _finish(self, name: str) -> None:
        async def pod() -> Object | None:
            label = f"batch.kubernetes.io/job-name={name}"
            pods = await self.api.list(PODS, self.namespace, labelSelector=label)
            return next((p for p in pods if "deletionTimestamp" not in p["metadata"]), None)

        found = await self.plane.wait_until(f"a pod of {name}", pod)
        await self.api.patch(
            PODS, found["metadata"]["name"], {"status": {"phase": "Succeeded"}}, self.namespace, subresource="status"
        )

        async def complete() -> bool:
            return has_condition(await self.api.get(JOBS, name, self.namespace), "Complete")

        await self.plane.wait_until(f"{name} is complete", complete)


def _became_true(now: bool, name: str, known: set[str]) -> bool:
    """Whether a condition has just become true."""
    new = now and name not in known
    (known.add if now else known.discard)(name)
    return new


@pytest_asyncio.fixture
async def real_kueue(plane: ControlPlane, api: KubeApi, namespace: str) -> AsyncIterator[RealKueue]:
    real_kueue, tasks = RealKueue(plane, api, namespace), Tasks("planner-agrees")
    tasks.supervise("watch_workloads", real_kueue.watch_workloads)
    yield real_kueue
    await tasks.close()


@pytest.mark.timeout(300)
async def test_the_planner_decides_like_kueue(
    real_kueue: RealKueue, api: KubeApi, namespace: str, queues: Queues
) -> None:
    flavor = await queues.add_flavor()
    for priority in range(10):
        await queues.add_priority_class(f"p{priority}", priority)
    scenarios = [*SCENARIOS, *(random_scenario(seed) for seed in SEEDS)]
    made = [entry for scenario in scenarios for entry in scenario.objects(namespace, flavor)]
    try:
        await api.apply(*made)
        played = await asyncio.gather(*(_play(real_kueue, scenario) for scenario in scenarios))
    finally:
        for kind in ("LocalQueue", "ClusterQueue", "Cohort"):
            for entry in made:
                if entry["kind"] == kind:
                    place = entry["metadata"]
                    found = await api.find_resource({"apiVersion": VERSION, "kind": kind})
                    await api.delete(found, place["name"], place.get("namespace", ""))
    for scenario, (planner, kueue) in zip(scenarios, played, strict=True):
        steps = [f"{step.job} {'submitted' if isinstance(step, Submit) else 'ends'}" for step in scenario.steps]
        assert dict(zip(steps, planner, strict=False)) == dict(zip(steps, kueue, strict=False)), scenario.name
    assert sum(name.startswith("-") for planner, _ in played for step in planner for name in step) > 10


async def _play(real_kueue: RealKueue, scenario: Scenario) -> tuple[Decisions, Decisions]:
    """Plays a scenario on both, step by step, until their decisions differ."""
    planner, ours, theirs = PlannerKueue(scenario), [], []
    for step in scenario.steps:
        runs = planner.holds_quota(step.job)
        ours.append(planner.play(step))
        theirs.append(await real_kueue.play(scenario, step, runs, len(ours[-1])))
        if ours[-1] != theirs[-1]:
            break
    return ours, theirs
