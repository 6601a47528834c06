"""Test doubles for RPC handlers: a recorded call, and helpers to let tasks run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from epp.grpc.rpc import HandlerFactory
from epp.tasks import Tasks

LOOP_TURNS = 6


class RecordedCall:
    """Implements `ServerCall`: records what is sent until the RPC is finished."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.status: int | None = None
        self.reason = ""

    def send(self, message: bytes) -> None:
        assert self.status is None, "sent after the end"
        self.sent.append(message)

    def finish(self, status: int = 0, message: str = "") -> None:
        if self.status is None:
            self.status, self.reason = status, message


class Dial:
    """Opens an RPC of a method; called with messages it delivers them to the handler and returns the call."""

    def __init__(self, method: HandlerFactory) -> None:
        self.call = RecordedCall()
        self.handler = method(self.call)

    def __call__(self, *messages: bytes) -> RecordedCall:
        for message in messages:
            self.handler.on_message(message)
        return self.call


@pytest.fixture
def dial() -> type[Dial]:
    return Dial


@pytest.fixture
def run_ready_tasks() -> Callable[[], Awaitable[None]]:
    """Lets all tasks run that are ready, and those that these make ready."""

    async def run() -> None:
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)

    return run


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.close()
