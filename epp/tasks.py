"""The only module that creates asyncio tasks: every task has a name, an owner that ends it, and a logged failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("epp.tasks")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class Tasks:
    """The tasks of one owner. `close` cancels them all and waits until they have ended."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` once; an exception is logged with the task's name."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def supervise(
        self,
        name: str,
        work: Callable[[], Awaitable[Any]],
        *,
        first: float = FIRST_PAUSE_SECONDS,
        limit: float = LONGEST_PAUSE_SECONDS,
    ) -> asyncio.Task[Any]:
        """Runs `work` until it returns; after an exception it is logged and run again, see `retry_with_backoff`."""

        def log_failure(error: BaseException, pause: float) -> None:
            log.error("task %s/%s failed; next attempt in %.1f s", self._owner, name, pause, exc_info=error)

        return self.spawn(name, retry_with_backoff(work, log_failure, first=first, limit=limit))

    async def close(self) -> None:
        """Cancels the tasks that still run and waits until all have ended, those spawned meanwhile as well."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)


async def retry_with_backoff(
    work: Callable[[], Awaitable[Any]],
    on_failure: Callable[[BaseException, float], None],
    *,
    first: float = FIRST_PAUSE_SECONDS,
    limit: float = LONGEST_PAUSE_SECONDS,
) -> None:
    """Awaits `work()` until it returns. After an exception calls `on_failure(error, pause)`, pauses, and tries again.

    The pause doubles from `first` to `limit` seconds, and starts over after an attempt that lasted longer than `limit`.
    A CancelledError is an exception like others unless this task has been cancelled. If it has, the attempt is the
    last, whatever `work` raises: the failure of a clean-up takes the place of CancelledError.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    pause = first
    while True:
        begun = loop.time()
        try:
            await work()
            return
        except (Exception, asyncio.CancelledError) as error:
            if task is not None and task.cancelling():
                raise
            if loop.time() - begun > limit:
                pause = first
            on_failure(error, pause)
        await asyncio.sleep(pause)
        pause = min(limit, pause * 2)
