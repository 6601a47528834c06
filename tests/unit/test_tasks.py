"""Tasks have an owner that ends them; supervised work is run again after failures."""

import asyncio
import logging

import pytest

from epp.tasks import Tasks, retry_with_backoff


async def test_close_cancels_tasks_and_waits_for_them() -> None:
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


async def test_supervised_work_runs_again_until_it_returns() -> None:
    runs = []

    async def work() -> None:
        runs.append(True)
        if len(runs) < 3:
            raise RuntimeError("not yet")

    tasks = Tasks("test")
    await tasks.supervise("stubborn", work, first=0.0, limit=0.0)
    assert len(runs) == 3


async def test_the_pause_doubles_up_to_the_limit_and_starts_over_after_a_long_attempt() -> None:
    pauses: list[float] = []
    attempts = 0

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 5:
            await asyncio.sleep(0.03)
        if attempts < 7:
            raise RuntimeError("not yet")

    await retry_with_backoff(work, lambda error, pause: pauses.append(pause), first=0.005, limit=0.02)
    assert pauses == [0.005, 0.01, 0.02, 0.02, 0.005, 0.01]
