"""The only `create_task`: every task has a name, an owner and an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("epp.tasks")


class Tasks:
    """The tasks of one owner; `close` ends them all and waits for it."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` once; a failure is logged with the task's name."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def supervise(
        self, name: str, work: Callable[[], Awaitable[Any]], *, first: float = 0.1, limit: float = 5.0
    ) -> asyncio.Task[Any]:
        """Runs `work` again whenever it fails, after a pause that doubles from `first` to `limit` seconds."""
        return self.spawn(name, self._run_until_success(name, work, first, limit))

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def _run_until_success(
        self, name: str, work: Callable[[], Awaitable[Any]], first: float, limit: float
    ) -> None:
        pause = first
        while True:
            try:
                await work()
                return
            except Exception:
                log.exception("task %s/%s failed; again in %.1f s", self._owner, name, pause)
            await asyncio.sleep(pause)
            pause = min(limit, pause * 2)
