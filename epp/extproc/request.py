"""The request phase of one stream: what has come of the request, and the replies that Envoy waits for."""

from __future__ import annotations

from typing import Final

import msgspec

from epp.errors import HeadersTooLarge, PayloadTooLarge
from epp.extproc import messages
from epp.extproc.bodies import Body, cut
from epp.extproc.changes import mutation
from epp.extproc.messages import Incoming, Mode
from epp.sched.exchange import Head, Route

BUFFERED: Final = (Mode.BUFFERED, Mode.BUFFERED_PARTIAL)
UNSEEN: Final = (Mode.STREAMED, Mode.NONE)


class Limits(msgspec.Struct, frozen=True):
    """Bytes that a request may have. `mark_responses`: add llm-d's `x-went-into-resp-headers: true`."""

    body: int = 64 << 20
    headers: int = 64 << 10
    mark_responses: bool = True


class RequestPhase:
    """Holds the body until it is answered.

    `unanswered` body messages wait for a reply of their own. `ended`: no more of the request will come. `trailers`
    came, and wait for a reply.
    """

    __slots__ = ("_body", "_limits", "_whole", "ended", "head", "mode", "trailers", "unanswered")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body = Body(limits.body)
        self._whole = b""
        self.head = Head({})
        self.mode = Mode.FULL_DUPLEX
        self.unanswered = 0
        self.ended = False
        self.trailers = False

    def begin(self, message: Incoming) -> None:
        """Takes the headers; raises HeadersTooLarge, and PayloadTooLarge if they announce such a body."""
        if message.modes is not None:
            self.mode = message.modes[0]
        headers, limits = message.headers or {}, self._limits
        self.ended = message.end
        self.head = Head(headers, end_of_stream=message.end, body_unseen=not message.end and self.mode in UNSEEN)
        self.hint(message)
        # The message holds metadata besides, perhaps a long subset hint: it is measured if it might be too much.
        if message.size > limits.headers and (size := messages.headers_size(headers)) > limits.headers:
            raise HeadersTooLarge(f"request headers of {size} bytes; the limit is {limits.headers}")
        if not self.at_headers and not _fits(headers.get("content-length", ""), limits.body):
            raise self._too_large()

    @property
    def at_headers(self) -> bool:
        """The choice belongs into the reply to the headers, whatever comes after them."""
        return self.head.end_of_stream or self.head.body_unseen

    def hint(self, message: Incoming) -> None:
        """The subset hint may come with any message."""
        if message.metadata is not None and (subset := messages.subset_hint(message.metadata)) is not None:
            self.head.subset = subset

    def add(self, message: Incoming) -> None:
        """Takes a piece of the body; raises PayloadTooLarge."""
        if not self._body.add(message.body):
            raise self._too_large()
        self.ended = message.end
        if self.mode in BUFFERED:
            self.unanswered = 1

    def whole(self) -> bytes:
        """The body, complete now."""
        self._whole = self._body.take()
        return self._whole

    def forget(self) -> None:
        """The body is of no more use."""
        self._body.take()
        self._whole = b""

    def replies(self, route: Route) -> list[bytes]:
        """The choice, where the body mode wants it, and all else that Envoy waits for."""
        body = None if self.at_headers else route.body
        changes = mutation(self.head.headers, route.set_headers, body)
        if self.at_headers:
            replies = [messages.chosen_at_headers(route.destination, changes, route.scores)]
            replies += [messages.CONTINUE_REQUEST_BODY] * self.unanswered
        elif self.mode is Mode.FULL_DUPLEX:
            replies = [messages.chosen_at_headers(route.destination, changes, route.scores)]
            replies += self._pieces(self._whole if body is None else body)
        elif self.trailers and not self.unanswered:
            return [messages.chosen_at_trailers(route.destination, route.scores)]
        else:
            replies = [messages.chosen_at_body(route.destination, changes, route.scores, body)]
        if self.trailers:
            replies.append(messages.CONTINUE_REQUEST_TRAILERS)
        return replies

    def _pieces(self, body: bytes) -> list[bytes]:
        """Trailers that follow are the end of the stream, and then an empty body is none."""
        if self.trailers:
            return [messages.request_piece(piece, False) for piece, _ in cut(body)] if body else []
        return [messages.request_piece(piece, last) for piece, last in cut(body)]

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"request body above the limit of {self._limits.body} bytes")


def _fits(content_length: str, limit: int) -> bool:
    return not content_length.isdecimal() or (len(content_length) < 19 and int(content_length) <= limit)
