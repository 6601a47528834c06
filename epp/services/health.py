"""grpc.health.v1 with llm-d's and GAIE's service names.

Without leader election llm-d answers every name as it answers `readiness`, and so do we, but for `liveness`: a process
that waits for endpoints, or drains, is alive, and restarting it would not help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from epp.errors import NotUnderstood
from epp.grpc.long_lived import Standing
from epp.grpc.rpc import Call, Methods
from epp.services import codec
from epp.tasks import Tasks

LIVENESS: Final = "liveness"
NAMES: Final = ("", LIVENESS, "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
INVALID_ARGUMENT: Final = 3

Ready = Callable[[], bool]


def methods(
    ready: Ready, tasks: Tasks | None = None, standing: Standing | None = None, *, interval: float = 0.5
) -> Methods:
    """Check and List; and Watch, looking every `interval` seconds, if there are `tasks` to do so."""
    stand = Standing() if standing is None else standing
    served = {
        "/grpc.health.v1.Health/Check": lambda call: UnaryHandler(call, lambda data: _check(data, ready)),
        "/grpc.health.v1.Health/List": lambda call: UnaryHandler(call, lambda data: _list(ready)),
    }
    if tasks is None:
        return served
    return {**served, "/grpc.health.v1.Health/Watch": lambda call: WatchHandler(call, ready, tasks, stand, interval)}


def serving(name: str, ready: Ready) -> bool:
    """The answer for one service name."""
    return name == LIVENESS or ready()


def _check(data: bytes, ready: Ready) -> bytes:
    return codec.health_status(serving(codec.health_service(data), ready))


def _list(ready: Ready) -> bytes:
    return codec.health_list({name: serving(name, ready) for name in NAMES})


class UnaryHandler:
    """Implements `rpc.Handler`: one message in, one out."""

    __slots__ = ("_answer", "_call")

    def __init__(self, call: Call, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer

    def message(self, data: bytes) -> None:
        try:
            self._call.send(self._answer(data))
        except NotUnderstood as error:
            self._call.finish(INVALID_ARGUMENT, str(error))
        else:
            self._call.finish()

    def half_closed(self) -> None:
        """After a message all is said already."""
        self._call.finish(INVALID_ARGUMENT, "no request")

    def lost(self) -> None:
        """Nothing is kept."""


class WatchHandler:
    """Implements `rpc.Handler`: the status at once, then whenever it changes, until the client leaves."""

    __slots__ = ("_call", "_interval", "_ready", "_standing", "_tasks", "_watching")

    def __init__(self, call: Call, ready: Ready, tasks: Tasks, standing: Standing, interval: float) -> None:
        self._call = call
        self._ready = ready
        self._tasks = tasks
        self._standing = standing
        self._interval = interval
        self._watching: asyncio.Task[None] | None = None

    def message(self, data: bytes) -> None:
        try:
            name = codec.health_service(data)
        except NotUnderstood as error:
            self._call.finish(INVALID_ARGUMENT, str(error))
            return
        if self._watching is None:
            self._standing.add(self)
            self._watching = self._tasks.spawn("health watch", self._watch(name))

    def half_closed(self) -> None:
        """The client has asked, and listens; or will never ask."""
        if self._watching is None:
            self._call.finish(INVALID_ARGUMENT, "no request")

    def end(self) -> None:
        """Finishes the RPC."""
        self.lost()
        self._call.finish()

    def lost(self) -> None:
        self._standing.discard(self)
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, name: str) -> None:
        told: bool | None = None
        while True:
            if (now := serving(name, self._ready)) is not told:
                self._call.send(codec.health_status(now))
                told = now
            await asyncio.sleep(self._interval)
