"""The request phase of one stream: what has come of the request, and the replies that Envoy waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.errors import HeadersTooLarge, PayloadTooLarge
from epp.extproc import codec
from epp.extproc.body import Body, cut, pass_request
from epp.extproc.codec import Incoming, Mode
from epp.extproc.header_mutation import mutation, take_control
from epp.requestcontrol.interfaces import Head, Route

BUFFERED: Final = (Mode.BUFFERED, Mode.BUFFERED_PARTIAL)
UNSEEN: Final = (Mode.STREAMED, Mode.NONE, Mode.GRPC)


class Limits(msgspec.Struct, frozen=True):
    """Bytes that a request may have. `mark_responses`: add llm-d's `x-went-into-resp-headers: true`."""

    body: int = 64 << 20
    headers: int = 64 << 10
    mark_responses: bool = True


class RequestPhase:
    """Holds the body until it is answered.

    `at_headers`: the choice belongs into the reply to the headers, whatever comes after them. `early` are the replies
    to body messages that came before the choice. `ended`: no more of the request will come. `trailers` came, and wait
    for a reply.
    """

    __slots__ = ("_body", "_control", "_limits", "_whole", "at_headers", "early", "ended", "head", "mode", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body = Body(limits.body)
        self._control: frozenset[str] = frozenset()
        self._whole = b""
        self.head = Head({})
        self.mode = Mode.FULL_DUPLEX
        self.at_headers = False
        self.early: list[bytes] = []
        self.ended = False
        self.trailers = False

    def begin(self, message: Incoming) -> None:
        """Takes the headers; raises HeadersTooLarge, and PayloadTooLarge if they announce such a body."""
        if message.modes is not None:
            self.mode = message.modes[0]
        headers, limits = message.headers or {}, self._limits
        # The message holds metadata besides, perhaps a long subset hint: it is measured if it might be too much.
        if len(message.data) > limits.headers and (size := codec.headers_size(headers)) > limits.headers:
            raise HeadersTooLarge(f"request headers of {size} bytes; the limit is {limits.headers}")
        unseen = not message.end and (self.mode in UNSEEN or _endless(headers))
        if not message.end and not unseen and not _fits(headers.get("content-length", ""), limits.body):
            raise self._too_large()
        self.at_headers = message.end or unseen
        self._control = take_control(headers)
        self.head = Head(headers, end_of_stream=message.end, body_unseen=unseen)
        self.ended = message.end
        self.hint(message)

    @property
    def passing(self) -> bool:
        """The body goes through us unseen, piece by piece, and there is more of it."""
        return self.at_headers and not self.ended and self.mode is not Mode.NONE

    def hint(self, message: Incoming) -> None:
        """The subset hint may come with any message."""
        if message.metadata is not None and (subset := codec.subset_hint(message.metadata)) is not None:
            self.head.subset = subset

    def add(self, message: Incoming) -> None:
        """Takes a piece of the body; raises PayloadTooLarge."""
        if not self._body.add(message.body):
            raise self._too_large()
        self.ended = message.end or self.mode in BUFFERED
        if self.mode is Mode.BUFFERED_PARTIAL and not message.end:
            self._body.take()  # Envoy's buffer was full: nobody can read half a body
            self.head.body_unseen = True

    def add_early(self, message: Incoming) -> None:
        """Takes a piece of a body that passes before there is a choice; raises PayloadTooLarge."""
        if self.mode is not Mode.STREAMED and not self._body.add(message.body):
            raise self._too_large()
        self.early += self.passed(message)

    def passed(self, message: Incoming) -> list[bytes]:
        """The replies to a piece of a body that passes."""
        self.ended = message.end
        return pass_request(self.mode, message)

    def whole(self) -> bytes:
        """The body, complete now."""
        self._whole = self._body.take()
        return self._whole

    def forget(self) -> None:
        """The body is of no more use."""
        self._body.take()
        self._whole = b""
        self.early = []

    def replies(self, route: Route) -> list[bytes]:
        """The choice, where the body mode wants it, and all else that Envoy waits for."""
        body = None if self.at_headers or self.head.body_unseen else route.body
        changes = mutation(self._control, route.set_headers, body)
        if self.at_headers:
            replies = [codec.chosen_at_headers(route.destination, changes, route.scores), *self.early]
        elif self.mode is Mode.FULL_DUPLEX:
            replies = [codec.chosen_at_headers(route.destination, changes, route.scores)]
            replies += self._pieces(self._whole if body is None else body)
        elif self.trailers and not self.ended:
            return [codec.chosen_at_trailers(route.destination, route.scores)]
        else:
            replies = [codec.chosen_at_body(route.destination, changes, route.scores, body)]
        if self.trailers:
            replies.append(codec.CONTINUE_REQUEST_TRAILERS)
        return replies

    def _pieces(self, body: bytes) -> list[bytes]:
        """Trailers that follow are the end of the stream, and then an empty body is none."""
        if self.trailers:
            return [codec.request_piece(piece, False) for piece, _ in cut(body)] if body else []
        return [codec.request_piece(piece, last) for piece, last in cut(body)]

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"request body above the limit of {self._limits.body} bytes")


def _fits(content_length: str, limit: int) -> bool:
    return not content_length.isdecimal() or (len(content_length) < 19 and int(content_length) <= limit)


def _endless(headers: Mapping[str, str]) -> bool:
    """A tunnel, or a change to another protocol: the body ends when the answer does."""
    method = headers.get(":method")
    return method == "CONNECT" or (method == "GET" and "upgrade" in headers)
