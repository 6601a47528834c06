"""Tasks have an owner and an end; what must go on goes on after failures."""

import asyncio
import logging

import pytest

from epp.tasks import Tasks


async def test_close_cancels_and_waits() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    tasks = Tasks("test")
    tasks.spawn("forever", work())
    await asyncio.sleep(0)
    await tasks.close()
    assert ended == [True]
    assert len(tasks) == 0


async def test_a_failure_is_logged_with_the_name_of_the_task(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise RuntimeError("broken")

    tasks = Tasks("scrape")
    with caplog.at_level(logging.ERROR, "epp.tasks"):
        await asyncio.wait([tasks.spawn("pod-1", work())])
        await asyncio.sleep(0)
    assert "scrape/pod-1" in caplog.text


async def test_kept_work_runs_again_until_it_succeeds() -> None:
    runs = []

    async def work() -> None:
        runs.append(True)
        if len(runs) < 3:
            raise RuntimeError("not yet")

    tasks = Tasks("test")
    await tasks.supervise("stubborn", work, first=0.0, limit=0.0)
    assert len(runs) == 3
