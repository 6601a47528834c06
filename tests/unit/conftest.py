"""The transport's side of the seam, and the decider's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from epp.grpc.rpc import HandlerFactory
from epp.tasks import Tasks

TURNS = 6


class RecordedCall:
    """Implements `rpc.ServerCall`: keeps what is sent, until the end."""

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
    """Opens RPCs of a method and lets tasks run."""

    def __init__(self, method: HandlerFactory) -> None:
        self.call = RecordedCall()
        self.handler = method(self.call)

    def __call__(self, *messages: bytes) -> RecordedCall:
        for message in messages:
            self.handler.on_message(message)
        return self.call


async def settle() -> None:
    """Lets everything that can run, run."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


@pytest.fixture
def dial() -> type[Dial]:
    return Dial


@pytest.fixture
def settled():
    return settle


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.close()
