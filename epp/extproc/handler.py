"""One ext_proc RPC: carries out the session's actions on the call, the router and the routed request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine

from epp.errors import DeadlineExceeded, InternalError, Rejection, ServiceUnavailable
from epp.extproc.actions import (
    CancelDecision,
    FinishStream,
    ObservabilityMode,
    RequestEnded,
    RequestEvent,
    SessionAction,
    StartDecision,
)
from epp.extproc.codec import Codec
from epp.extproc.session import RequestLimits, Session, SessionState
from epp.grpc.rpc import RpcMethods, ServerCall
from epp.headers import REQUEST_ID
from epp.requestcontrol.interfaces import RequestHeaders, RoutedRequest, Router, RoutingDecision
from epp.tasks import Tasks

log = logging.getLogger("epp.extproc.handler")

PROCESS_METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def ext_proc_methods(router: Router, tasks: Tasks, limits: RequestLimits, timeout: float) -> RpcMethods:
    """ExternalProcessor/Process. Its streams share one codec.

    `timeout` in seconds bounds decisions that the router does not make at once.
    """
    codec = Codec()
    return {PROCESS_METHOD: lambda call: ExtProcHandler(call, router, tasks, limits, timeout, codec)}


class ExtProcHandler:
    """Implements `RpcHandler`. A routed request is finalized exactly once, also if the stream is reset.

    No exception leaves it: the transport would end the RPC with an error, and Envoy answer 500 even under fail-open.
    """

    __slots__ = ("_call", "_decision_task", "_routed_request", "_router", "_session", "_tasks", "_timeout")

    def __init__(
        self, call: ServerCall, router: Router, tasks: Tasks, limits: RequestLimits, timeout: float, codec: Codec
    ) -> None:
        self._call = call
        self._router = router
        self._tasks = tasks
        self._timeout = timeout
        self._session = Session(limits, codec)
        self._routed_request: RoutedRequest | None = None
        self._decision_task: asyncio.Task[None] | None = None

    def on_message(self, data: bytes) -> None:
        try:
            actions = self._session.receive(data)
        except Exception:
            actions = self._session.on_failure(_log_internal_error("a message"))
        if actions:
            self._execute(actions)

    def on_half_close(self) -> None:
        self._execute(self._session.on_half_close())

    def on_cancel(self) -> None:
        self._execute(self._session.on_cancel())

    def _execute(self, actions: list[SessionAction]) -> None:
        for action in actions:
            if type(action) is bytes:
                self._call.send(action)
            elif isinstance(action, RequestEvent):
                if self._routed_request is not None:
                    _deliver_event(self._routed_request, action)
            elif type(action) is StartDecision:
                self._start_decision(action)
            elif type(action) is FinishStream:
                self._call.finish()
            elif type(action) is CancelDecision:
                if self._decision_task is not None:
                    self._decision_task.cancel()
            # Envoy sets the flag on every message of a stream.
            elif type(action) is ObservabilityMode and type(self._call) is not SilentCall:
                self._call = SilentCall(self._call)

    def _start_decision(self, action: StartDecision) -> None:
        try:
            decision = self._router.route_request(action.headers, action.body)
        except Rejection as rejection:
            self._execute(self._session.on_rejection(rejection))
        except Exception:
            self._execute(self._session.on_rejection(_log_internal_error("a decision", action.headers)))
        else:
            if isinstance(decision, RoutingDecision):
                self._apply_decision(decision)
            else:
                self._decision_task = self._tasks.spawn("decision", self._await_decision(decision, action.headers))
                # A task that is cancelled before its first step never awaits what it was given.
                self._decision_task.add_done_callback(lambda _: _discard_awaitable(decision))

    async def _await_decision(self, pending: Awaitable[RoutingDecision], headers: RequestHeaders) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                decision = await pending
        except TimeoutError:
            self._execute(self._session.on_rejection(DeadlineExceeded(f"no decision within {self._timeout:g} s")))
        except Rejection as rejection:
            self._execute(self._session.on_rejection(rejection))
        except asyncio.CancelledError:
            # If the session cancelled the decision it is not DECIDING any more, and `on_rejection` has no effect.
            self._execute(self._session.on_rejection(ServiceUnavailable("the decision was cancelled")))
            raise
        except Exception:
            self._execute(self._session.on_rejection(_log_internal_error("a decision", headers)))
        else:
            self._apply_decision(decision)
        finally:
            self._decision_task = None

    def _apply_decision(self, decision: RoutingDecision) -> None:
        if self._session.state is not SessionState.DECIDING:
            _deliver_event(decision.request, RequestEnded("disconnected"))
            return
        try:
            actions = self._session.on_decision(decision)
        except Exception:
            _deliver_event(decision.request, RequestEnded("error"))
            self._execute(self._session.on_rejection(_log_internal_error("a reply")))
        else:
            self._routed_request = decision.request
            self._execute(actions)


class SilentCall:
    """Implements `ServerCall` for a stream in observability mode: sends nothing."""

    __slots__ = ("_call",)

    def __init__(self, call: ServerCall) -> None:
        self._call = call

    def send(self, message: bytes) -> None:
        """Drops the message: Envoy does not read it."""

    def finish(self, status: int = 0, message: str = "") -> None:
        self._call.finish(status, message)


def _deliver_event(request: RoutedRequest, event: RequestEvent) -> None:
    try:
        event.deliver(request)
    except Exception:
        log.exception("a routed request failed on %s", type(event).__name__)


def _discard_awaitable(pending: Awaitable[RoutingDecision]) -> None:
    if isinstance(pending, Coroutine):
        pending.close()
    elif isinstance(pending, asyncio.Future):
        pending.cancel()


def _log_internal_error(what: str, headers: RequestHeaders | None = None) -> InternalError:
    """Logs the exception that is being handled; the client learns no more than that there was one."""
    request_id = headers.headers.get(REQUEST_ID) if headers else None
    log.exception("%s failed", what, extra={REQUEST_ID: request_id} if request_id else None)
    return InternalError("the endpoint picker failed; its log says why")
