"""grpc.health.v1 with llm-d's and GAIE's service names.

Without leader election llm-d answers every name as it answers `readiness`, and so do we, but for `liveness`: a process
that waits for endpoints, or drains, is alive, and restarting it would not help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from epp.errors import DecodeError
from epp.grpc.long_lived import LongLivedRpcs
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.services import codec
from epp.tasks import Tasks

LIVENESS: Final = "liveness"
SERVICE_NAMES: Final = ("", LIVENESS, "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")
INVALID_ARGUMENT: Final = 3

IsReady = Callable[[], bool]


def health_methods(
    ready: IsReady, tasks: Tasks | None = None, standing: LongLivedRpcs | None = None, *, interval: float = 0.5
) -> RpcMethods:
    """Check and List; and Watch, looking every `interval` seconds, if there are `tasks` to do so."""
    stand = LongLivedRpcs() if standing is None else standing
    served = {
        "/grpc.health.v1.Health/Check": lambda call: UnaryHealthHandler(call, lambda data: _answer_check(data, ready)),
        "/grpc.health.v1.Health/List": lambda call: UnaryHealthHandler(call, lambda data: _answer_list(ready)),
    }
    if tasks is None:
        return served
    return {
        **served,
        "/grpc.health.v1.Health/Watch": lambda call: HealthWatchHandler(call, ready, tasks, stand, interval),
    }


def is_serving(name: str, ready: IsReady) -> bool:
    """The answer for one service name."""
    return name == LIVENESS or ready()


def _answer_check(data: bytes, ready: IsReady) -> bytes:
    return codec.encode_health_status(is_serving(codec.decode_health_check(data), ready))


def _answer_list(ready: IsReady) -> bytes:
    return codec.encode_health_list({name: is_serving(name, ready) for name in SERVICE_NAMES})


class UnaryHealthHandler:
    """Implements `rpc.Handler`: one message in, one out."""

    __slots__ = ("_answer", "_call")

    def __init__(self, call: ServerCall, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer

    def on_message(self, data: bytes) -> None:
        try:
            self._call.send(self._answer(data))
        except DecodeError as error:
            self._call.finish(INVALID_ARGUMENT, str(error))
        else:
            self._call.finish()

    def on_half_close(self) -> None:
        """After a message all is said already."""
        self._call.finish(INVALID_ARGUMENT, "no request")

    def on_cancel(self) -> None:
        """Nothing is kept."""


class HealthWatchHandler:
    """Implements `rpc.Handler`: the status at once, then whenever it changes, until the client leaves."""

    __slots__ = ("_call", "_interval", "_is_ready", "_long_lived_rpcs", "_tasks", "_watch_task")

    def __init__(
        self, call: ServerCall, ready: IsReady, tasks: Tasks, standing: LongLivedRpcs, interval: float
    ) -> None:
        self._call = call
        self._is_ready = ready
        self._tasks = tasks
        self._long_lived_rpcs = standing
        self._interval = interval
        self._watch_task: asyncio.Task[None] | None = None

    def on_message(self, data: bytes) -> None:
        try:
            name = codec.decode_health_check(data)
        except DecodeError as error:
            self._call.finish(INVALID_ARGUMENT, str(error))
            return
        if self._watch_task is None:
            self._long_lived_rpcs.add(self)
            self._watch_task = self._tasks.spawn("health watch", self._send_status_changes(name))

    def on_half_close(self) -> None:
        """The client has asked, and listens; or will never ask."""
        if self._watch_task is None:
            self._call.finish(INVALID_ARGUMENT, "no request")

    def finish(self) -> None:
        """Finishes the RPC."""
        self.on_cancel()
        self._call.finish()

    def on_cancel(self) -> None:
        self._long_lived_rpcs.discard(self)
        if self._watch_task is not None:
            self._watch_task.cancel()

    async def _send_status_changes(self, name: str) -> None:
        told: bool | None = None
        while True:
            if (now := is_serving(name, self._is_ready)) is not told:
                self._call.send(codec.encode_health_status(now))
                told = now
            await asyncio.sleep(self._interval)
