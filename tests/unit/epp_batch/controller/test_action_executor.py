"""ActionExecutor: one action per unit, concurrency, creation rate, and what becomes of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from epp.clock import ManualClock
from epp.tasks import Tasks
from epp_batch.controller.action_executor import ActionExecutor
from epp_batch.controller.reconcile import CreateJob, Deactivate, DeleteJob, Fail
from epp_batch.controller.run_informer import RunInformer
from epp_batch.controller.unit_status import UnitStatus
from epp_batch.errors import ApiServerUnreachable, ClusterError
from epp_batch.kube.client import KubeObject
from epp_batch.kube.errors import Forbidden, Invalid
from epp_batch.kube.resources import KueueResources
from epp_batch.spec import Run, TranscriptionOptions, Unit

UNITS = tuple(Unit(name=f"r-{i}", tasks=()) for i in range(8))
RUN = Run(name="r", output="/out", options=TranscriptionOptions(), units=UNITS)


class ScriptedWriter:
    """A JobWriter that records its calls; `error` is raised by the next ones, and `gate` holds them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.error: ClusterError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.peak = 0

    async def _call(self, *call: str) -> None:
        self.calls.append(call)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1

    async def create_job(self, unit: Unit, run: Run) -> KubeObject:
        await self._call("create", unit.name)
        return {"metadata": {"name": unit.name, "uid": f"uid-{unit.name}", "resourceVersion": "1"}}

    async def delete_job(self, name: str, uid: str) -> None:
        await self._call("delete", name, uid)

    async def set_workload_active(self, kueue: KueueResources, workload: str, *, active: bool) -> None:
        await self._call("activate" if active else "deactivate", workload)


class Harness:
    def __init__(self) -> None:
        self.writer, self.tasks = ScriptedWriter(), Tasks("test")
        self.informer = RunInformer(unit.name for unit in UNITS)
        self.clock = ManualClock()
        self.executor = ActionExecutor(
            self.writer, KueueResources("v1beta2"), RUN, self.informer, self.tasks, self.clock  # type: ignore[arg-type]
        )  # fmt: skip

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    harness = Harness()
    yield harness
    await harness.executor.close()
    await harness.tasks.close()


async def test_each_action_is_one_call(harness: Harness):
    harness.executor.submit(UNITS[0], CreateJob())
    harness.executor.submit(UNITS[1], DeleteJob("u1"))
    harness.executor.submit(UNITS[2], Fail(UnitStatus("queued"), "u2"))
    harness.executor.submit(UNITS[3], Deactivate("w"))
    await harness.settle()
    assert sorted(harness.writer.calls) == [
        ("create", "r-0"), ("deactivate", "w"), ("delete", "r-1", "u1"), ("delete", "r-2", "u2"),
    ]  # fmt: skip
    assert harness.executor.busy_units == set()
    assert {"r-0", "r-1", "r-2", "r-3"} <= harness.informer.dirty_units


async def test_a_unit_has_one_action_at_a_time(harness: Harness):
    harness.writer.gate.clear()
    harness.executor.submit(UNITS[0], DeleteJob("u1"))
    harness.executor.submit(UNITS[0], DeleteJob("u1"))
    harness.writer.gate.set()
    await harness.settle()
    assert harness.writer.calls == [("delete", "r-0", "u1")]


async def test_concurrency_starts_at_one_and_grows_with_each_success(harness: Harness):
    harness.writer.gate.clear()
    for unit in UNITS:
        harness.executor.submit(unit, DeleteJob("u"))
    await harness.settle()
    assert harness.writer.peak == 1
    harness.writer.gate.set()
    await harness.settle()
    assert len(harness.writer.calls) == len(UNITS)
    assert harness.writer.peak > 1


async def test_jobs_are_created_at_the_rate_of_the_run(harness: Harness):
    for unit in UNITS:
        harness.executor.submit(unit, CreateJob())  # 8 units: one Job per second
    await harness.settle()
    assert harness.writer.calls == [("create", "r-0")]
    harness.clock.advance(1.0)
    harness.executor.submit(UNITS[0], CreateJob())
    await harness.settle()
    assert harness.writer.calls == [("create", "r-0"), ("create", "r-1")]


async def test_missing_rights_end_the_run(harness: Harness):
    harness.writer.error = Forbidden("cannot delete")
    harness.executor.submit(UNITS[0], DeleteJob("u"))
    await harness.settle()
    with pytest.raises(Forbidden):
        harness.executor.raise_if_failed()


async def test_a_rejected_job_is_recorded_for_its_unit(harness: Harness):
    harness.writer.error = Invalid("denied by a webhook")
    harness.executor.submit(UNITS[0], CreateJob())
    await harness.settle()
    assert harness.executor.rejected == {"r-0": "denied by a webhook"}
    harness.executor.raise_if_failed()


async def test_a_server_that_does_not_answer_drops_the_action_and_is_shown(harness: Harness):
    harness.writer.error = ApiServerUnreachable("no answer")
    harness.executor.submit(UNITS[0], DeleteJob("u"))
    await harness.settle()
    assert harness.informer.api_errors == {"writes": "no answer"}
    assert harness.executor.rejected == {}
