"""Runs an engine in real time: one timer while a step is in progress, none while the engine is idle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from epp.clock import Clock
from epp.sim.engine import SimEngine
from epp.sim.request import SimRequest


class ProgressSignal:
    """Implements `ProgressListener`: lets one coroutine wait for the next progress of its request."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def on_progress(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until the next `on_progress`."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class EngineDriver:
    """Owns `engine` while it serves: nothing else may change it."""

    def __init__(self, engine: SimEngine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    async def generate(self, request: SimRequest) -> AsyncGenerator[int, None]:
        """Yields the number of output tokens each time it has grown. Closing the generator aborts the request."""
        signal = ProgressSignal()
        request.listener = signal
        self._advance_to_now()  # if the timer is late, the request must not join a step that should have begun before
        self.engine.add_request(request, self._clock.now())
        self._schedule_timer()
        try:
            yielded = 0
            while not request.finish_reason:
                if request.output_tokens == yielded:
                    await signal.wait()
                if request.output_tokens > yielded:
                    yielded = request.output_tokens
                    yield yielded
        finally:
            self.engine.abort_request(request, self._clock.now())

    def close(self) -> None:
        """Stops the timer; requests in flight make no more progress."""
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
            for request in self.engine.complete_step():
                if request.listener is not None:
                    request.listener.on_progress()
