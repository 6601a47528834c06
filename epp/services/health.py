"""grpc.health.v1 (gRPC's doc/health-checking.md) under the service names of llm-d and GAIE.

`liveness` is SERVING whenever the process answers: a picker that waits for endpoints or drains is alive, and a restart
would not help it. All other names are answered as `readiness`. Unknown names are too, where health-checking.md has
NOT_FOUND: a gateway's health check may use any name, and llm-d without leader election (cmd/epp/runner/health.go)
answers each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from epp.errors import DecodeError
from epp.grpc.framing import StatusCode
from epp.grpc.long_lived import LongLivedRpcs
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.services import codec
from epp.tasks import Tasks

LIVENESS: Final = "liveness"
# `liveness`, `readiness` and the ext_proc service: GAIE proposal 004. `inference-extension`: GAIE's lwepp. The empty
# name stands for the server as a whole.
SERVICE_NAMES: Final = ("", LIVENESS, "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")

IsReady = Callable[[], bool]


def health_methods(
    is_ready: IsReady,
    tasks: Tasks | None = None,
    long_lived_rpcs: LongLivedRpcs | None = None,
    *,
    interval: float = 0.5,
) -> RpcMethods:
    """Check and List, and Watch if there are `tasks` to run it. A watch polls `is_ready` every `interval` seconds."""
    rpcs = LongLivedRpcs() if long_lived_rpcs is None else long_lived_rpcs

    def check(data: bytes) -> bytes:
        return codec.encode_health_status(is_serving(codec.decode_health_check(data), is_ready))

    def list_services(data: bytes) -> bytes:
        return codec.encode_health_list({name: is_serving(name, is_ready) for name in SERVICE_NAMES})

    methods: dict[str, Callable[[ServerCall], UnaryHealthHandler | HealthWatchHandler]] = {
        "/grpc.health.v1.Health/Check": lambda call: UnaryHealthHandler(call, check),
        "/grpc.health.v1.Health/List": lambda call: UnaryHealthHandler(call, list_services),
    }
    if tasks is not None:
        methods["/grpc.health.v1.Health/Watch"] = lambda call: HealthWatchHandler(call, is_ready, tasks, rpcs, interval)
    return methods


def is_serving(name: str, is_ready: IsReady) -> bool:
    """Whether the service `name` is SERVING."""
    return name == LIVENESS or is_ready()


class UnaryHealthHandler:
    """Implements `RpcHandler` for an RPC of one request and one response."""

    __slots__ = ("_answer", "_call")

    def __init__(self, call: ServerCall, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer

    def on_message(self, data: bytes) -> None:
        try:
            self._call.send(self._answer(data))
        except DecodeError as error:
            self._call.finish(StatusCode.INVALID_ARGUMENT, str(error))
        else:
            self._call.finish()

    def on_half_close(self) -> None:
        """After a message the RPC is finished already, and this has no effect."""
        self._call.finish(StatusCode.INVALID_ARGUMENT, "no request")

    def on_cancel(self) -> None:
        """Nothing to release."""


class HealthWatchHandler:
    """Implements `RpcHandler` and `LongLivedRpc`: sends the status at once, then on each change until cancelled."""

    __slots__ = ("_call", "_interval", "_is_ready", "_long_lived_rpcs", "_tasks", "_watch_task")

    def __init__(
        self, call: ServerCall, is_ready: IsReady, tasks: Tasks, long_lived_rpcs: LongLivedRpcs, interval: float
    ) -> None:
        self._call = call
        self._is_ready = is_ready
        self._tasks = tasks
        self._long_lived_rpcs = long_lived_rpcs
        self._interval = interval
        self._watch_task: asyncio.Task[None] | None = None

    def on_message(self, data: bytes) -> None:
        try:
            name = codec.decode_health_check(data)
        except DecodeError as error:
            self._call.finish(StatusCode.INVALID_ARGUMENT, str(error))
            return
        if self._watch_task is None:
            self._long_lived_rpcs.add(self)
            self._watch_task = self._tasks.spawn("health watch", self._send_status_changes(name))

    def on_half_close(self) -> None:
        """Usual after the request: the client reads on."""
        if self._watch_task is None:
            self._call.finish(StatusCode.INVALID_ARGUMENT, "no request")

    def on_cancel(self) -> None:
        self._long_lived_rpcs.discard(self)
        if self._watch_task is not None:
            self._watch_task.cancel()

    def finish(self) -> None:
        self.on_cancel()
        self._call.finish()

    async def _send_status_changes(self, name: str) -> None:
        sent: bool | None = None
        while True:
            serving = is_serving(name, self._is_ready)
            if serving is not sent:
                self._call.send(codec.encode_health_status(serving))
                sent = serving
            await asyncio.sleep(self._interval)
