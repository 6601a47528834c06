"""One ext_proc RPC: does what the session says, asks the decider, tells the flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine

from epp.errors import DeadlineExceeded, Internal, Reject, Unavailable
from epp.extproc.actions import Abandon, Decide, Effect, Finish, Mute, Over, Told
from epp.extproc.session import Limits, Session, State
from epp.grpc.rpc import Call, Methods
from epp.requestcontrol.interfaces import REQUEST_ID, Decider, Flight, Head, Route
from epp.tasks import Tasks

log = logging.getLogger("epp.extproc.handler")

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def methods(decider: Decider, tasks: Tasks, limits: Limits, timeout: float) -> Methods:
    """Process, for every stream of which the decider is asked once; `timeout` in seconds for decisions that wait."""
    return {PROCESS: lambda call: ExtProcHandler(call, decider, tasks, limits, timeout)}


class ExtProcHandler:
    """Implements `rpc.Handler`. A flight hears of its end exactly once, also when the stream breaks.

    No exception leaves it: the transport would make a gRPC error of it, and Envoy a 500 even under fail-open.
    """

    __slots__ = ("_call", "_decider", "_flight", "_session", "_tasks", "_timeout", "_waiting")

    def __init__(self, call: Call, decider: Decider, tasks: Tasks, limits: Limits, timeout: float) -> None:
        self._call = call
        self._decider = decider
        self._tasks = tasks
        self._timeout = timeout
        self._session = Session(limits)
        self._flight: Flight | None = None
        self._waiting: asyncio.Task[None] | None = None

    def message(self, data: bytes) -> None:
        try:
            effects = self._session.receive(data)
        except Exception:
            effects = self._session.failed(_unexpected("a message"))
        if effects:
            self._do(effects)

    def half_closed(self) -> None:
        self._do(self._session.half_closed())

    def lost(self) -> None:
        self._do(self._session.lost())

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is bytes:
                self._call.send(effect)
            elif isinstance(effect, Told):
                if self._flight is not None:
                    _tell(self._flight, effect)
            elif type(effect) is Decide:
                self._decide(effect)
            elif type(effect) is Finish:
                self._call.finish()
            elif type(effect) is Abandon:
                if self._waiting is not None:
                    self._waiting.cancel()
            elif type(effect) is Mute:
                self._call = MutedCall(self._call)

    def _decide(self, wanted: Decide) -> None:
        try:
            route = self._decider.decide(wanted.head, wanted.body)
        except Reject as reject:
            self._do(self._session.rejected(reject))
        except Exception:
            self._do(self._session.rejected(_unexpected("a decision", wanted.head)))
        else:
            if isinstance(route, Route):
                self._routed(route)
            else:
                self._waiting = self._tasks.spawn("decision", self._decide_later(route, wanted.head))
                # A task that is cancelled before its first step never takes up what it was given.
                self._waiting.add_done_callback(lambda _: _drop(route))

    async def _decide_later(self, waiting: Awaitable[Route], head: Head) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                route = await waiting
        except TimeoutError:
            self._do(self._session.rejected(DeadlineExceeded(f"no decision within {self._timeout:g} s")))
        except Reject as reject:
            self._do(self._session.rejected(reject))
        except asyncio.CancelledError:
            # Not by us, or this does nothing: an abandoned decision is not waited for.
            self._do(self._session.rejected(Unavailable("the decision was cancelled")))
            raise
        except Exception:
            self._do(self._session.rejected(_unexpected("a decision", head)))
        else:
            self._routed(route)
        finally:
            self._waiting = None

    def _routed(self, route: Route) -> None:
        if self._session.state is not State.DECIDING:
            _tell(route.flight, Over("disconnected"))
            return
        try:
            effects = self._session.decided(route)
        except Exception:
            _tell(route.flight, Over("error"))
            self._do(self._session.rejected(_unexpected("a reply")))
        else:
            self._flight = route.flight
            self._do(effects)


class MutedCall:
    """Implements `rpc.Call` for one who must not speak."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def send(self, message: bytes) -> None:
        """Is not sent."""

    def finish(self, status: int = 0, message: str = "") -> None:
        self._call.finish(status, message)


def _tell(flight: Flight, effect: Told) -> None:
    try:
        effect.tell(flight)
    except Exception:
        log.exception("a flight failed")


def _drop(waiting: Awaitable[Route]) -> None:
    if isinstance(waiting, Coroutine):
        waiting.close()
    elif isinstance(waiting, asyncio.Future):
        waiting.cancel()


def _unexpected(what: str, head: Head | None = None) -> Internal:
    known = head.headers.get(REQUEST_ID) if head else None
    log.exception("%s failed", what, extra={REQUEST_ID: known} if known else None)
    return Internal("the endpoint picker failed; its log says why")
