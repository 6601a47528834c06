"""Child processes of the demo."""

from __future__ import annotations

import os

import pytest

from epp_batch.demo import processes
from epp_batch.errors import BatchError


async def test_gateway_that_does_not_start_raises_with_its_message(tmp_path):
    with pytest.raises(BatchError, match=r"epp up did not start: .*--sim"):
        async with processes.start_gateway(0, tmp_path / "gateway.log"):
            pytest.fail("it started")


async def test_command_that_exceeds_its_limit_is_stopped(tmp_path):
    before = set(os.listdir("/proc"))
    with pytest.raises(BatchError, match=r"summarize took more than 0\.01 s"):
        await processes.run_command(["summarize", str(tmp_path), "--url=http://127.0.0.1:9", "--follow"], 0.01)
    assert not any(is_running_child(pid) for pid in set(os.listdir("/proc")) - before if pid.isdecimal())


def is_running_child(pid: str) -> bool:
    """Whether the process is a child of this one and has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return parent == str(os.getpid()) and state != "Z"
