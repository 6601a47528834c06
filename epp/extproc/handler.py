"""One ext_proc RPC: does what the session says, asks the decider, tells the flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine

from epp.errors import DeadlineExceeded, InternalError, Rejection, ServiceUnavailable
from epp.extproc.actions import (
    CancelDecision,
    FinishStream,
    ObservabilityMode,
    RequestDecision,
    RequestEnded,
    RequestEvent,
    SessionAction,
)
from epp.extproc.session import RequestLimits, Session, SessionState
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.headers import REQUEST_ID
from epp.requestcontrol.interfaces import RequestHeaders, RoutedRequest, Router, RoutingDecision
from epp.tasks import Tasks

log = logging.getLogger("epp.extproc.handler")

PROCESS_METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def ext_proc_methods(decider: Router, tasks: Tasks, limits: RequestLimits, timeout: float) -> RpcMethods:
    """Process, for every stream of which the decider is asked once; `timeout` in seconds for decisions that wait."""
    return {PROCESS_METHOD: lambda call: ExtProcHandler(call, decider, tasks, limits, timeout)}


class ExtProcHandler:
    """Implements `rpc.Handler`. A flight hears of its end exactly once, also when the stream breaks.

    No exception leaves it: the transport would make a gRPC error of it, and Envoy a 500 even under fail-open.
    """

    __slots__ = ("_call", "_decision_task", "_routed_request", "_router", "_session", "_tasks", "_timeout")

    def __init__(self, call: ServerCall, decider: Router, tasks: Tasks, limits: RequestLimits, timeout: float) -> None:
        self._call = call
        self._router = decider
        self._tasks = tasks
        self._timeout = timeout
        self._session = Session(limits)
        self._routed_request: RoutedRequest | None = None
        self._decision_task: asyncio.Task[None] | None = None

    def on_message(self, data: bytes) -> None:
        try:
            effects = self._session.receive(data)
        except Exception:
            effects = self._session.on_failure(_log_internal_error("a message"))
        if effects:
            self._execute(effects)

    def on_half_close(self) -> None:
        self._execute(self._session.on_half_close())

    def on_cancel(self) -> None:
        self._execute(self._session.on_cancel())

    def _execute(self, effects: list[SessionAction]) -> None:
        for effect in effects:
            if type(effect) is bytes:
                self._call.send(effect)
            elif isinstance(effect, RequestEvent):
                if self._routed_request is not None:
                    _deliver_event(self._routed_request, effect)
            elif type(effect) is RequestDecision:
                self._request_decision(effect)
            elif type(effect) is FinishStream:
                self._call.finish()
            elif type(effect) is CancelDecision:
                if self._decision_task is not None:
                    self._decision_task.cancel()
            elif type(effect) is ObservabilityMode:
                self._call = SilentCall(self._call)

    def _request_decision(self, wanted: RequestDecision) -> None:
        try:
            route = self._router.route_request(wanted.headers, wanted.body)
        except Rejection as reject:
            self._execute(self._session.on_rejection(reject))
        except Exception:
            self._execute(self._session.on_rejection(_log_internal_error("a decision", wanted.headers)))
        else:
            if isinstance(route, RoutingDecision):
                self._apply_decision(route)
            else:
                self._decision_task = self._tasks.spawn("decision", self._await_decision(route, wanted.headers))
                # A task that is cancelled before its first step never takes up what it was given.
                self._decision_task.add_done_callback(lambda _: _discard_awaitable(route))

    async def _await_decision(self, waiting: Awaitable[RoutingDecision], head: RequestHeaders) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                route = await waiting
        except TimeoutError:
            self._execute(self._session.on_rejection(DeadlineExceeded(f"no decision within {self._timeout:g} s")))
        except Rejection as reject:
            self._execute(self._session.on_rejection(reject))
        except asyncio.CancelledError:
            # Not by us, or this does nothing: an abandoned decision is not waited for.
            self._execute(self._session.on_rejection(ServiceUnavailable("the decision was cancelled")))
            raise
        except Exception:
            self._execute(self._session.on_rejection(_log_internal_error("a decision", head)))
        else:
            self._apply_decision(route)
        finally:
            self._decision_task = None

    def _apply_decision(self, route: RoutingDecision) -> None:
        if self._session.state is not SessionState.DECIDING:
            _deliver_event(route.request, RequestEnded("disconnected"))
            return
        try:
            effects = self._session.on_decision(route)
        except Exception:
            _deliver_event(route.request, RequestEnded("error"))
            self._execute(self._session.on_rejection(_log_internal_error("a reply")))
        else:
            self._routed_request = route.request
            self._execute(effects)


class SilentCall:
    """Implements `rpc.ServerCall` for one who must not speak."""

    __slots__ = ("_call",)

    def __init__(self, call: ServerCall) -> None:
        self._call = call

    def send(self, message: bytes) -> None:
        """Is not sent."""

    def finish(self, status: int = 0, message: str = "") -> None:
        self._call.finish(status, message)


def _deliver_event(flight: RoutedRequest, effect: RequestEvent) -> None:
    try:
        effect.deliver(flight)
    except Exception:
        log.exception("a flight failed")


def _discard_awaitable(waiting: Awaitable[RoutingDecision]) -> None:
    if isinstance(waiting, Coroutine):
        waiting.close()
    elif isinstance(waiting, asyncio.Future):
        waiting.cancel()


def _log_internal_error(what: str, head: RequestHeaders | None = None) -> InternalError:
    known = head.headers.get(REQUEST_ID) if head else None
    log.exception("%s failed", what, extra={REQUEST_ID: known} if known else None)
    return InternalError("the endpoint picker failed; its log says why")
