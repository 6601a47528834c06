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


async def test_close_also_ends_tasks_that_are_spawned_while_it_waits() -> None:
    tasks = Tasks("test")
    late_tasks: list[asyncio.Task[None]] = []

    async def wait_forever() -> None:
        await asyncio.Event().wait()

    async def spawn_when_cancelled() -> None:
        try:
            await wait_forever()
        finally:
            late_tasks.append(tasks.spawn("late", wait_forever()))

    tasks.spawn("first", spawn_when_cancelled())
    await asyncio.sleep(0)
    await tasks.close()
    assert len(tasks) == 0
    assert [task.cancelled() for task in late_tasks] == [True]


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


async def test_work_whose_clean_up_fails_when_it_is_cancelled_is_not_run_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = []

    async def work() -> None:
        runs.append(True)
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionResetError("closing failed")  # takes the place of CancelledError

    tasks = Tasks("test")
    tasks.supervise("unclean", work, first=0.0, limit=0.0)
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await tasks.close()
    assert runs == [True]
    assert "closing failed" in caplog.text


async def test_work_that_ends_with_a_cancellation_of_its_own_is_run_again() -> None:
    """As when a client library cancels a call: grpc.aio raises CancelledError from a stream that was cancelled."""
    runs = []
    failures: list[BaseException] = []

    async def work() -> None:
        runs.append(True)
        if len(runs) < 2:
            inner = asyncio.get_running_loop().create_future()
            inner.cancel()
            await inner

    await retry_with_backoff(work, lambda error, pause: failures.append(error), first=0.0, limit=0.0)
    assert len(runs) == 2
    assert [type(error) for error in failures] == [asyncio.CancelledError]
