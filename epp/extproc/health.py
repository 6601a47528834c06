"""grpc.health.v1 with llm-d's service names.

Without leader election llm-d answers every name as it answers `readiness`, and so do we, but for `liveness`: a process
that waits for endpoints, or drains, is alive, and restarting it would not help.
"""

from __future__ import annotations

from collections.abc import Callable

from epp.extproc import messages
from epp.extproc.rpc import Call, Handler, Methods

LIVENESS = "liveness"
NAMES = ("", LIVENESS, "readiness", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor")

Ready = Callable[[], bool]


def methods(ready: Ready) -> Methods:
    """Check and List. Watch is left out, as in llm-d: Envoy and kubelet ask with Check."""
    return {
        "/grpc.health.v1.Health/Check": lambda call: _Unary(call, lambda data: _check(data, ready)),
        "/grpc.health.v1.Health/List": lambda call: _Unary(call, lambda data: _list(ready)),
    }


def serving(name: str, ready: Ready) -> bool:
    """The answer for one service name."""
    return name == LIVENESS or ready()


def _check(data: bytes, ready: Ready) -> bytes:
    return messages.health_status(serving(messages.health_service(data), ready))


def _list(ready: Ready) -> bytes:
    return messages.health_list({name: serving(name, ready) for name in NAMES})


class _Unary(Handler):
    def __init__(self, call: Call, answer: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._answer = answer

    def message(self, data: bytes) -> None:
        try:
            self._call.send(self._answer(data))
        except messages.NotUnderstood as error:
            self._call.finish(3, str(error))
        else:
            self._call.finish()

    def half_closed(self) -> None:
        """The message was the request."""

    def lost(self) -> None:
        """Nothing is kept."""
