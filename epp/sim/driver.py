"""Runs an engine in real time: one timer while a step is in progress, nothing at all while it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from epp.clock import Clock
from epp.sim.engine import Engine
from epp.sim.sequence import Sequence


class Feed:
    """Lets one coroutine wait for the next progress of its sequence."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def progressed(self) -> None:
        """Called by the driver."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until the next `progressed`."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class Driver:
    """The only one who touches `engine` while it serves."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, sequence: Sequence) -> AsyncGenerator[int, None]:
        """Yields how many tokens the answer has, whenever that has grown, until it ends. Leaving early aborts."""
        feed = Feed()
        sequence.listener = feed
        self._catch_up()  # a late timer must not let the newcomer into a step that should have begun before
        self.engine.add(sequence, self._clock.now())
        self._arm()
        try:
            told = 0
            while not sequence.finish:
                if sequence.generated == told:
                    await feed.wait()
                if sequence.generated > told:
                    told = sequence.generated
                    yield told
        finally:
            self.engine.abort(sequence, self._clock.now())

    def close(self) -> None:
        """Stops the clockwork; sequences in flight stay where they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and self.engine.due is not None:
            delay = max(0.0, self.engine.due - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._catch_up()
        self._arm()

    def _catch_up(self) -> None:
        now = self._clock.now()
        while self.engine.due is not None and self.engine.due <= now:
            for sequence in self.engine.advance():
                if sequence.listener is not None:
                    sequence.listener.progressed()
