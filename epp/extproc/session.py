"""One ext_proc stream: Envoy's messages in, effects out. No I/O, no time.

The order of phases differs by body mode, which Envoy tells in its first message:

- full duplex: the reply to the headers waits for the end of the body, then headers, pieces, trailers, in that order;
- buffered: the headers are answered at once and empty, the choice goes into the reply to the one body message;
- streamed (and none): the choice goes into the reply to the headers, before any of the body is seen.

The transitions are `STEPS`; a message that has none in its state is dropped, because an answer that Envoy did not ask
for ends the client's request with a 500, and so does a gRPC error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final

import msgspec

from epp.errors import HeadersTooLarge, PayloadTooLarge, Reject
from epp.extproc import messages
from epp.extproc.bodies import PIECE, Body, cut
from epp.extproc.messages import PLAIN, Incoming, Kind, Mode, Mutation
from epp.sched.exchange import Head, Route

CONTROL_HEADERS: Final = frozenset(
    (
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-request-dropped-reason",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-video-duration-seconds",
        "x-llm-d-video-fps",
        "x-llm-d-video-resolution",
        "x-slo-tpot-ms",
        "x-slo-ttft-ms",
        "x-data-parallel-host-port",
        "x-encoder-hosts-ports",
        "x-kv-cache-source-host-port",
        "x-prefiller-host-port",
    )
)
"""Headers between client, gateway and picker; what a client put there never reaches a model server."""


class Limits(msgspec.Struct, frozen=True):
    """Bytes that a request may have. `mark_responses`: add llm-d's `x-went-into-resp-headers: true`."""

    body: int = 64 << 20
    headers: int = 64 << 10
    mark_responses: bool = True


class Decide(msgspec.Struct, gc=False):
    """Effect: choose an endpoint and call `decided` or `rejected`, now or later."""

    head: Head
    body: bytes


class Served(msgspec.Struct, gc=False):
    """Effect: the gateway says which endpoint answered."""

    target: str


class ResponseStarted(msgspec.Struct, gc=False):
    """Effect: response headers came."""

    status: int
    headers: Mapping[str, str]


class ResponseData(msgspec.Struct, gc=False):
    """Effect: a piece of the response body came."""

    data: bytes


class Over(msgspec.Struct, gc=False):
    """Effect: the request is over; causes as in `epp.api.Ended`."""

    cause: str


class Finish(msgspec.Struct, gc=False):
    """Effect: end the stream, after what was sent."""


Effect = bytes | Decide | Served | ResponseStarted | ResponseData | Over | Finish
"""bytes are a message to send."""

FINISH: Final = Finish()
COMPLETED: Final = Over("completed")
DISCONNECTED: Final = Over("disconnected")


BUFFERED: Final = (Mode.BUFFERED, Mode.BUFFERED_PARTIAL)


class State(Enum):
    """Where the stream is."""

    NEW = auto()
    GATHERING = auto()  # full duplex or buffered: the body is coming
    DECIDING = auto()
    FORWARDING = auto()  # streamed: chosen, the request body is still passing
    ROUTED = auto()  # the request phase is answered
    RESPONDING = auto()
    CLOSED = auto()


class Session:
    """See the module. Every method but `__init__` returns effects, to be done in order."""

    __slots__ = (
        "_body",
        "_ended_by_trailers",
        "_half_closed",
        "_head",
        "_limits",
        "_modes",
        "_over",
        "_route",
        "_whole",
        "state",
    )

    def __init__(self, limits: Limits) -> None:
        self.state = State.NEW
        self._limits = limits
        self._modes = (Mode.FULL_DUPLEX, Mode.FULL_DUPLEX)
        self._head: Head | None = None
        self._body = Body(limits.body)
        self._whole = b""
        self._route: Route | None = None
        self._ended_by_trailers = False
        self._half_closed = False
        self._over = False

    def receive(self, data: bytes) -> list[Effect]:
        """One message from Envoy."""
        try:
            message = messages.decode(data)
        except messages.NotUnderstood as error:
            return [] if self._route is not None else self.rejected(Reject(str(error)))
        step = STEPS.get((self.state, message.kind))
        if step is None:
            return []
        if message.metadata is not None and self._head is not None and self._route is None:
            self._hint(message)
        return step(self, message, len(data))

    def decided(self, route: Route) -> list[Effect]:
        """The choice has been made."""
        if self.state is not State.DECIDING:
            return []
        self._route = route
        head = self._head
        assert head is not None, "decided without a request"
        mutation = _mutation(head.headers, route)
        mode = self._modes[0]
        if head.end_of_stream:
            effects: list[Effect] = [messages.chosen_at_headers(route.destination, mutation, route.scores)]
        elif mode is Mode.FULL_DUPLEX:
            effects = self._forward(route, mutation)
        elif mode in BUFFERED:
            effects = [messages.chosen_at_body(route.destination, mutation, route.scores, route.body)]
        else:
            effects = [messages.chosen_at_headers(route.destination, mutation, route.scores)]
            if mode is not Mode.NONE:
                self.state = State.FORWARDING
                return effects
        self._whole = b""
        self._answered(effects)
        return effects

    def rejected(self, reject: Reject) -> list[Effect]:
        """The client gets an answer from us. Too late once the request phase is answered."""
        if self._route is not None or self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self._body.take()
        self._whole = b""
        headers = {messages.DROPPED_REASON: reject.dropped} if reject.dropped else {}
        text = f"inference error: {reject.code} - {reject.message}".encode()
        return [messages.immediate(reject.status, text, headers, f"epp_{reject.code}"), FINISH]

    def half_closed(self) -> list[Effect]:
        """Envoy sends no more. A body that has not ended ends here: some gateways say it no other way."""
        self._half_closed = True
        if self.state is State.GATHERING:
            return self._decide()
        if self.state is State.DECIDING:
            return []
        return [*self._end(COMPLETED if self.state is State.ROUTED else DISCONNECTED), FINISH]

    def lost(self) -> list[Effect]:
        """The stream is gone."""
        effects = self._end(DISCONNECTED)
        self._body.take()
        return effects

    # Steps: (message, its size in bytes) -> effects

    def _request_headers(self, message: Incoming, size: int) -> list[Effect]:
        if message.modes is not None:
            self._modes = message.modes
        self._head = Head(message.headers or {}, end_of_stream=message.end)
        self._hint(message)
        if size > self._limits.headers:
            return self.rejected(
                HeadersTooLarge(f"request headers of {size} bytes; the limit is {self._limits.headers}")
            )
        if message.end:
            return self._decide()
        mode = self._modes[0]
        if mode is Mode.FULL_DUPLEX:
            self.state = State.GATHERING
            return []
        if mode in BUFFERED:
            self.state = State.GATHERING
            return [messages.CONTINUE_REQUEST_HEADERS]
        self._head.body_unseen = True
        return self._decide()

    def _gather(self, message: Incoming, size: int) -> list[Effect]:
        if not self._body.add(message.body):
            return self.rejected(PayloadTooLarge(f"request body above the limit of {self._limits.body} bytes"))
        return self._decide() if message.end or self._modes[0] in BUFFERED else []

    def _gathered_with_trailers(self, message: Incoming, size: int) -> list[Effect]:
        self._ended_by_trailers = True
        return self._decide()

    def _trailers_meanwhile(self, message: Incoming, size: int) -> list[Effect]:
        self._ended_by_trailers = True
        return []

    def _pass_request_body(self, message: Incoming, size: int) -> list[Effect]:
        effects: list[Effect] = [messages.CONTINUE_REQUEST_BODY]
        if message.end:
            self._answered(effects)
        return effects

    def _pass_request_body_late(self, message: Incoming, size: int) -> list[Effect]:
        """The model server answers before it has read everything; in full duplex this is a repeated end: dropped."""
        return [] if self._modes[0] is Mode.FULL_DUPLEX else [messages.CONTINUE_REQUEST_BODY]

    def _pass_last_trailers(self, message: Incoming, size: int) -> list[Effect]:
        effects: list[Effect] = [messages.CONTINUE_REQUEST_TRAILERS]
        self._answered(effects)
        return effects

    def _pass_request_trailers(self, message: Incoming, size: int) -> list[Effect]:
        return [messages.CONTINUE_REQUEST_TRAILERS]

    def _response_headers(self, message: Incoming, size: int) -> list[Effect]:
        self.state = State.RESPONDING
        headers = message.headers or {}
        effects: list[Effect] = []
        if message.metadata is not None and (target := messages.served(message.metadata)):
            effects.append(Served(target))
        status = headers.get(":status") or headers.get("status") or "0"
        effects.append(ResponseStarted(int(status) if status.isdecimal() else 0, headers))
        marked = self._limits.mark_responses
        effects.append(messages.MARK_RESPONSE_HEADERS if marked else messages.CONTINUE_RESPONSE_HEADERS)
        if message.end:
            effects += self._end(COMPLETED)
        return effects

    def _response_body(self, message: Incoming, size: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._modes[1] is not Mode.FULL_DUPLEX:
            effects.append(messages.CONTINUE_RESPONSE_BODY)
        elif len(message.body) <= PIECE:
            effects.append(messages.response_chunk(message.body, message.end))
        else:
            effects += [messages.response_chunk(piece, last and message.end) for piece, last in cut(message.body)]
        if message.body:
            effects.append(ResponseData(message.body))
        if message.end:
            effects += self._end(COMPLETED)
        return effects

    def _response_trailers(self, message: Incoming, size: int) -> list[Effect]:
        return [messages.CONTINUE_RESPONSE_TRAILERS, *self._end(COMPLETED)]

    # What the steps are made of

    def _hint(self, message: Incoming) -> None:
        if message.metadata is not None and self._head is not None:
            hint = messages.subset_hint(message.metadata)
            if hint is not None:
                self._head.subset = hint

    def _decide(self) -> list[Effect]:
        self.state = State.DECIDING
        assert self._head is not None, "a decision without headers"
        self._whole = self._body.take()
        return [Decide(self._head, self._whole)]

    def _forward(self, route: Route, mutation: Mutation) -> list[Effect]:
        """Headers, then the body, then the trailers if they came: Envoy insists on the order."""
        effects: list[Effect] = [messages.chosen_at_headers(route.destination, mutation, route.scores)]
        body = self._whole if route.body is None else route.body
        if body or not self._ended_by_trailers:
            for piece, last in cut(body):
                effects.append(messages.request_chunk(piece, last and not self._ended_by_trailers))
        if self._ended_by_trailers:
            effects.append(messages.CONTINUE_REQUEST_TRAILERS)
        return effects

    def _answered(self, effects: list[Effect]) -> None:
        """The request phase is over. Closing now is the only safe moment to leave: later, pieces would be lost."""
        assert self._route is not None, "answered without a route"
        self.state = State.ROUTED
        if not self._route.observe:
            self.state = State.CLOSED
            effects.append(FINISH)
        elif self._half_closed:
            effects += [*self._end(COMPLETED), FINISH]

    def _end(self, how: Over) -> list[Effect]:
        told = self._over or self._route is None or not self._route.observe
        self._over = True
        self.state = State.CLOSED
        return [] if told else [how]


def _mutation(headers: Mapping[str, str], route: Route) -> Mutation:
    """What of the request headers changes; PLAIN itself if nothing but the destination does."""
    setting = dict(route.set_headers)
    if route.body is not None:
        setting["content-length"] = str(len(route.body))
    removing = CONTROL_HEADERS.intersection(headers)
    if not setting and not removing:
        return PLAIN
    return Mutation(setting, tuple(sorted(removing - setting.keys() - {messages.DESTINATION})))


Step = Callable[[Session, Incoming, int], list[Effect]]

STEPS: Final[Mapping[tuple[State, Kind], Step]] = {
    (State.NEW, Kind.REQUEST_HEADERS): Session._request_headers,
    (State.GATHERING, Kind.REQUEST_BODY): Session._gather,
    (State.GATHERING, Kind.REQUEST_TRAILERS): Session._gathered_with_trailers,
    (State.DECIDING, Kind.REQUEST_TRAILERS): Session._trailers_meanwhile,
    (State.FORWARDING, Kind.REQUEST_BODY): Session._pass_request_body,
    (State.FORWARDING, Kind.REQUEST_TRAILERS): Session._pass_last_trailers,
    (State.FORWARDING, Kind.RESPONSE_HEADERS): Session._response_headers,
    (State.ROUTED, Kind.REQUEST_TRAILERS): Session._pass_request_trailers,
    (State.ROUTED, Kind.RESPONSE_HEADERS): Session._response_headers,
    (State.RESPONDING, Kind.REQUEST_BODY): Session._pass_request_body_late,
    (State.RESPONDING, Kind.REQUEST_TRAILERS): Session._pass_request_trailers,
    (State.RESPONDING, Kind.RESPONSE_BODY): Session._response_body,
    (State.RESPONDING, Kind.RESPONSE_TRAILERS): Session._response_trailers,
}
