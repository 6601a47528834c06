"""Runs an engine in real time: one timer while a step is in progress, nothing at all while it is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from epp.clock import Clock
from epp.sim.engine import SimEngine
from epp.sim.request import SimRequest


class ProgressSignal:
    """Lets one coroutine wait for the next progress of its sequence."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def on_progress(self) -> None:
        """Called by the driver."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until the next `progressed`."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class EngineDriver:
    """The only one who touches `engine` while it serves."""

    def __init__(self, engine: SimEngine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    async def generate(self, sequence: SimRequest) -> AsyncGenerator[int, None]:
        """Yields how many tokens the answer has, whenever that has grown, until it ends. Leaving early aborts."""
        feed = ProgressSignal()
        sequence.listener = feed
        self._advance_to_now()  # a late timer must not let the newcomer into a step that should have begun before
        self.engine.add_request(sequence, self._clock.now())
        self._schedule_timer()
        try:
            told = 0
            while not sequence.finish_reason:
                if sequence.output_tokens == told:
                    await feed.wait()
                if sequence.output_tokens > told:
                    told = sequence.output_tokens
                    yield told
        finally:
            self.engine.abort_request(sequence, self._clock.now())

    def close(self) -> None:
        """Stops the clockwork; sequences in flight stay where they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_timer(self) -> None:
        if self._timer is None and self.engine.step_ends_at is not None:
            delay = max(0.0, self.engine.step_ends_at - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._advance_to_now()
        self._schedule_timer()

    def _advance_to_now(self) -> None:
        now = self._clock.now()
        while self.engine.step_ends_at is not None and self.engine.step_ends_at <= now:
            for sequence in self.engine.complete_step():
                if sequence.listener is not None:
                    sequence.listener.on_progress()
