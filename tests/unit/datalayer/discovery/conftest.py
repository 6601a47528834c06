"""A notifier that records what a discovery reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from epp.api import Discovery, Endpoint


class RecordingNotifier:
    """The lists reported, to be awaited; `synced` once the first is complete."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[list[Endpoint]] = asyncio.Queue()
        self.synced = False

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        self.lists.put_nowait(list(endpoints))
        self.synced = True

    def upsert(self, endpoint: Endpoint) -> None:
        raise AssertionError("our discoveries report whole lists")

    def delete(self, name: str) -> None:
        raise AssertionError("our discoveries report whole lists")

    def mark_synced(self) -> None:
        self.synced = True

    async def targets(self) -> list[str]:
        """`address:port` of the next list."""
        return [endpoint.target for endpoint in await self.lists.get()]


@pytest.fixture
def notifier() -> RecordingNotifier:
    return RecordingNotifier()


@pytest.fixture
def running(notifier: RecordingNotifier):
    """`async with running(discovery) as task`: `run` in a task, cancelled at the end."""

    @asynccontextmanager
    async def run(discovery: Discovery) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.ensure_future(discovery.run(notifier))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run
