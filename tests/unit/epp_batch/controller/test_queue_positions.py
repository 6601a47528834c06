"""Positions of a run's Workloads in their queue."""

from __future__ import annotations

from typing import Any

import pytest

from epp_batch.controller.queue_positions import list_queue_positions
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.kube.resources import KueueResources
from tests.unit.epp_batch.controller.fake_api import FakeApi
from tests.unit.epp_batch.controller.objects import RUNNING, make_job, make_workload

KUEUE = KueueResources("v1beta2")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


async def test_positions_are_those_of_the_runs_own_waiting_workloads(api: FakeApi):
    def item(name: str, position: int) -> dict[str, Any]:
        return {"metadata": {"name": name}, "positionInLocalQueue": position}

    waiting = make_workload()
    api.objects[KUEUE.pending_workloads_path("ns", waiting.spec.queue_name)] = {
        "items": [item("another", 0), item(waiting.metadata.name, 1)]
    }
    units = [UnitObjects(make_job(), waiting), RUNNING]
    positions = await list_queue_positions(api, KUEUE, "ns", units)  # type: ignore[arg-type]
    assert positions == {waiting.metadata.name: 2}
    assert await list_queue_positions(FakeApi(), KUEUE, "ns", units) == {}  # type: ignore[arg-type]
