"""One ext_proc stream: Envoy's messages in, effects out. No I/O, no time.

The order of phases differs by body mode, which Envoy tells in its first message:

- full duplex: the reply to the headers waits for the end of the body, then headers, pieces, trailers, in that order;
- buffered: the headers are answered at once and empty, the choice goes into the reply to the one body message;
- streamed (and none): the choice goes into the reply to the headers, before any of the body is seen.

The transitions are `STEPS` and `AT_HALF_CLOSE`. A message that has no step in its state breaks the protocol: before the
choice the client gets a 500 from us, after it the stream ends well. A gRPC error would become a 500 even under
fail-open, and so would a reply that Envoy did not wait for; no reply at all would hold up the client for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Final

from epp.errors import Internal, NotUnderstood, Reject
from epp.extproc import codec
from epp.extproc.actions import (
    ABANDON,
    BROKEN,
    COMPLETED,
    DISCONNECTED,
    FINISH,
    MUTE,
    Decide,
    Effect,
    Over,
    ResponseData,
    ResponseStarted,
    Served,
)
from epp.extproc.body import pass_response
from epp.extproc.codec import Incoming, Kind, Mode
from epp.extproc.request_phase import BUFFERED, Limits, RequestPhase
from epp.requestcontrol.interfaces import Route

__all__ = ["AT_HALF_CLOSE", "STEPS", "Limits", "Session", "State"]


class State(IntEnum):
    """Where the stream is."""

    NEW = auto()
    GATHERING = auto()  # full duplex or buffered: the body is coming
    DECIDING = auto()
    FORWARDING = auto()  # streamed: chosen, the request body is still passing
    ROUTED = auto()  # the request phase is answered
    RESPONDING = auto()
    ENDED = auto()  # the response is over, Envoy has yet to close
    CLOSED = auto()


class Session:
    """See the module. Every method but `__init__` returns effects, to be done in order."""

    __slots__ = ("_half_closed", "_mark", "_over", "_request", "_response_mode", "_route", "_told_modes", "state")

    def __init__(self, limits: Limits) -> None:
        self.state = State.NEW
        self._request = RequestPhase(limits)
        self._mark = limits.mark_responses
        self._response_mode = Mode.FULL_DUPLEX
        self._told_modes = False
        self._route: Route | None = None
        self._half_closed = False
        self._over = False

    def receive(self, data: bytes) -> list[Effect]:
        """One message from Envoy."""
        try:
            message = codec.decode(data)
            step = STEPS.get((self.state, message.kind))
            if step is None:
                return self._out_of_place(message)
            if message.modes is not None:
                self._response_mode = message.modes[1]
                self._told_modes = True
            return [MUTE, *step(self, message)] if message.observed else step(self, message)
        except NotUnderstood as error:
            return self.failed(Internal(str(error)))
        except Reject as reject:
            return [*self._abandoned(), *self.rejected(reject)]

    def decided(self, route: Route) -> list[Effect]:
        """The choice has been made; only in state DECIDING."""
        request = self._request
        effects: list[Effect] = [*request.replies(route)]
        request.forget()
        self._route = route
        if request.passing and not self._half_closed:
            self.state = State.FORWARDING
            return effects
        return self._answered(effects)

    def rejected(self, reject: Reject) -> list[Effect]:
        """The client gets an answer from us. Too late once there is a choice, or an answer."""
        if self.state not in UNDECIDED:
            return []
        self._close()
        headers = {codec.DROPPED_REASON: reject.dropped} if reject.dropped else {}
        text = f"inference error: {reject.code} - {reject.message}".encode("utf-8", "replace")
        return [codec.immediate(reject.status, text, headers, f"epp_{reject.code}"), FINISH]

    def failed(self, reject: Reject) -> list[Effect]:
        """Something is broken, here or there. The client gets `reject` if there is time, else we get out of its way.

        In the middle of an answer that may cost a piece of it; an error would cost all of it.
        """
        if self.state is State.CLOSED:
            return []
        return [*self._abandoned(), *(self.rejected(reject) or self._finish(BROKEN))]

    def half_closed(self) -> list[Effect]:
        """Envoy sends no more, but reads on."""
        self._half_closed = True
        step = AT_HALF_CLOSE.get(self.state)
        return [] if step is None else step(self)

    def lost(self) -> list[Effect]:
        """The stream is gone."""
        if self.state is State.ENDED:  # as it should be, with nothing left to forget
            self.state = State.CLOSED
            return []
        effects = [*self._abandoned(), *self._end(self._cut_short())]
        self._close()
        return effects

    def _out_of_place(self, message: Incoming) -> list[Effect]:
        kind, state = message.kind.name, self.state.name
        return self.failed(Internal(f"the gateway sent {kind.lower()} in state {state.lower()}"))

    # The request phase

    def _request_headers(self, message: Incoming) -> list[Effect]:
        request = self._request
        request.begin(message)
        if request.at_headers:
            return self._decide()
        self.state = State.GATHERING
        return [codec.CONTINUE_REQUEST_HEADERS] if request.mode in BUFFERED else []

    def _gather(self, message: Incoming) -> list[Effect]:
        request = self._request
        request.hint(message)
        request.add(message)
        return self._decide() if request.ended else []

    def _gathered_with_trailers(self, message: Incoming) -> list[Effect]:
        """The body has no other end than the trailers."""
        self._request.hint(message)
        self._request.trailers = True
        return self._decide()

    def _decide(self) -> list[Effect]:
        self.state = State.DECIDING
        return [Decide(self._request.head, self._request.whole())]

    def _body_meanwhile(self, message: Incoming) -> list[Effect]:
        """A body that passes need not wait for our reply; of one that we have whole this is a repeated end: dropped."""
        if self._request.passing:
            self._request.add_early(message)
        return []

    def _trailers_meanwhile(self, message: Incoming) -> list[Effect]:
        self._request.trailers = self._request.ended = True
        return []

    def _pass_request_body(self, message: Incoming) -> list[Effect]:
        effects: list[Effect] = [*self._request.passed(message)]
        return self._answered(effects) if message.end else effects

    def _pass_last_trailers(self, message: Incoming) -> list[Effect]:
        return self._answered([codec.CONTINUE_REQUEST_TRAILERS])

    def _late_request_body(self, message: Incoming) -> list[Effect]:
        """The answer came before the end of a body that passes; of any other body this is a repeated end: dropped.

        Without a choice the headers have had no reply, and nothing that comes after them may have one.
        """
        return [*self._request.passed(message)] if self._request.passing and self._route is not None else []

    def _late_request_trailers(self, message: Incoming) -> list[Effect]:
        return [] if self._route is None else [codec.CONTINUE_REQUEST_TRAILERS]

    def _answered(self, effects: list[Effect]) -> list[Effect]:
        """The request phase is over. Closing now is the only safe moment to leave: later, pieces would be lost."""
        assert self._route is not None, "answered without a route"
        self.state = State.ROUTED
        return effects if self._route.observe and not self._half_closed else effects + self._finish()

    # The response phase

    def _response_headers_early(self, message: Incoming) -> list[Effect]:
        """Envoy itself answers (a timeout, a limit) while we wait for the body or the choice."""
        self._request.forget()
        return [*self._abandoned(), *self._response_headers(message)]

    def _response_headers(self, message: Incoming) -> list[Effect]:
        self.state = State.RESPONDING
        headers = message.headers or {}
        effects: list[Effect] = []
        if message.metadata is not None and (target := codec.served(message.metadata)):
            effects.append(Served(target))
        status = headers.get(":status") or headers.get("status") or ""
        effects.append(ResponseStarted(int(status) if len(status) == 3 and status.isdecimal() else 0, headers))
        effects.append(codec.MARK_RESPONSE_HEADERS if self._mark else codec.CONTINUE_RESPONSE_HEADERS)
        if message.end:
            effects += self._ended()
        return effects

    def _response_body(self, message: Incoming) -> list[Effect]:
        self.state = State.RESPONDING
        effects: list[Effect] = [*pass_response(self._response_mode, message)]
        if message.body:
            effects.append(ResponseData(message.body))
        if message.end:
            effects += self._ended()
        return effects

    def _response_trailers(self, message: Incoming) -> list[Effect]:
        return [codec.CONTINUE_RESPONSE_TRAILERS, *self._ended()]

    def _drop(self, message: Incoming) -> list[Effect]:
        """Some Envoys repeat the end of a long body (GAIE issue 2988)."""
        return []

    def _ended(self) -> list[Effect]:
        self.state = State.ENDED
        return self._end(COMPLETED)

    # Ends

    def _unfinished(self) -> list[Effect]:
        """Gateways that tell their modes half-close when the client left; of others it may be the end of the body."""
        return self._finish() if self._told_modes else self._decide()

    def _cut_short(self) -> Over:
        """How a request ends that the gateway leaves now: well, where we would not see the end of the answer."""
        no_bodies = self._response_mode is Mode.NONE and self.state in (State.ROUTED, State.RESPONDING)
        no_answers = not self._told_modes and self.state is State.ROUTED
        return COMPLETED if no_bodies or no_answers else DISCONNECTED

    def _abandoned(self) -> list[Effect]:
        return [ABANDON] if self.state is State.DECIDING else []

    def _finish(self, how: Over | None = None) -> list[Effect]:
        effects = [*self._end(how or self._cut_short()), FINISH]
        self._close()
        return effects

    def _end(self, how: Over) -> list[Effect]:
        """Tells how a request ended, once. The end of a route that is not observed is learnt elsewhere."""
        told = self._over or self._route is None or not self._route.observe
        self._over = True
        return [] if told else [how]

    def _close(self) -> None:
        self.state = State.CLOSED
        self._request.forget()


UNDECIDED: Final = (State.NEW, State.GATHERING, State.DECIDING)
ANSWERED: Final = (State.ROUTED, State.RESPONDING, State.ENDED)

Step = Callable[[Session, Incoming], list[Effect]]

STEPS: Final[Mapping[tuple[State, Kind], Step]] = {
    (State.NEW, Kind.REQUEST_HEADERS): Session._request_headers,
    (State.NEW, Kind.RESPONSE_HEADERS): Session._response_headers,  # a filter before us answered: passed through
    (State.GATHERING, Kind.REQUEST_BODY): Session._gather,
    (State.GATHERING, Kind.REQUEST_TRAILERS): Session._gathered_with_trailers,
    (State.GATHERING, Kind.RESPONSE_HEADERS): Session._response_headers_early,
    (State.DECIDING, Kind.REQUEST_BODY): Session._body_meanwhile,
    (State.DECIDING, Kind.REQUEST_TRAILERS): Session._trailers_meanwhile,
    (State.DECIDING, Kind.RESPONSE_HEADERS): Session._response_headers_early,
    (State.FORWARDING, Kind.REQUEST_BODY): Session._pass_request_body,
    (State.FORWARDING, Kind.REQUEST_TRAILERS): Session._pass_last_trailers,
    (State.FORWARDING, Kind.RESPONSE_HEADERS): Session._response_headers,
    (State.FORWARDING, Kind.RESPONSE_BODY): Session._response_body,
    (State.FORWARDING, Kind.RESPONSE_TRAILERS): Session._response_trailers,
    (State.ROUTED, Kind.RESPONSE_HEADERS): Session._response_headers,
    (State.ROUTED, Kind.RESPONSE_BODY): Session._response_body,
    (State.ROUTED, Kind.RESPONSE_TRAILERS): Session._response_trailers,
    (State.RESPONDING, Kind.RESPONSE_BODY): Session._response_body,
    (State.RESPONDING, Kind.RESPONSE_TRAILERS): Session._response_trailers,
    **{(state, Kind.REQUEST_BODY): Session._late_request_body for state in ANSWERED},
    **{(state, Kind.REQUEST_TRAILERS): Session._late_request_trailers for state in ANSWERED},
    (State.ENDED, Kind.RESPONSE_BODY): Session._drop,
    (State.ENDED, Kind.RESPONSE_TRAILERS): Session._response_trailers,
}

AT_HALF_CLOSE: Final[Mapping[State, Callable[[Session], list[Effect]]]] = {
    **dict.fromkeys(set(State) - {State.DECIDING, State.CLOSED}, Session._finish),
    State.GATHERING: Session._unfinished,
}
