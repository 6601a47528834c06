"""The child process that transcribes."""

from __future__ import annotations

import pytest

from epp_batch.errors import FailureKind
from epp_batch.local.worker_process import WorkerDied
from epp_batch.spec import WorkOrder
from tests.unit.epp_batch.local.conftest import OPTIONS, create_broken_worker, task


async def test_last_log_line_of_a_dead_worker_is_reported(folder):
    order = WorkOrder(run="r", unit="u", output=str(folder.root), options=OPTIONS, tasks=(task("a"),))
    with pytest.raises(WorkerDied) as died:
        await anext(create_broken_worker(folder).run_order(order))
    assert died.value.kind is FailureKind.INTERNAL
    assert "encodings" in died.value.message or "Python" in died.value.message
