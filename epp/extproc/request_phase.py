"""The request phase of one stream: what has come of the request, and the replies that Envoy waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.errors import HeadersTooLarge, PayloadTooLarge
from epp.extproc import codec
from epp.extproc.body import BodyBuffer, forward_request_body, split_into_chunks
from epp.extproc.codec import BodyMode, ProcessingRequest
from epp.extproc.header_mutation import build_header_mutation, extract_control_headers
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision

BUFFERED_MODES: Final = (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
UNBUFFERED_MODES: Final = (BodyMode.STREAMED, BodyMode.NONE, BodyMode.GRPC)


class RequestLimits(msgspec.Struct, frozen=True):
    """Bytes that a request may have. `mark_responses`: add llm-d's `x-went-into-resp-headers: true`."""

    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 64 << 10
    mark_responses: bool = True


class RequestPhase:
    """Holds the body until it is answered.

    `at_headers`: the choice belongs into the reply to the headers, whatever comes after them. `early` are the replies
    to body messages that came before the choice. `ended`: no more of the request will come. `trailers` came, and wait
    for a reply.
    """

    __slots__ = (
        "_body",
        "_complete_body",
        "_control_headers",
        "_limits",
        "body_mode",
        "early_replies",
        "end_of_stream",
        "has_trailers",
        "headers",
        "route_at_headers",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._body = BodyBuffer(limits.max_body_bytes)
        self._control_headers: frozenset[str] = frozenset()
        self._complete_body = b""
        self.headers = RequestHeaders({})
        self.body_mode = BodyMode.FULL_DUPLEX
        self.route_at_headers = False
        self.early_replies: list[bytes] = []
        self.end_of_stream = False
        self.has_trailers = False

    def receive_headers(self, message: ProcessingRequest) -> None:
        """Takes the headers; raises HeadersTooLarge, and PayloadTooLarge if they announce such a body."""
        if message.body_modes is not None:
            self.body_mode = message.body_modes[0]
        headers, limits = message.headers or {}, self._limits
        # The message holds metadata besides, perhaps a long subset hint: it is measured if it might be too much.
        if (
            len(message.data) > limits.max_header_bytes
            and (size := codec.count_header_bytes(headers)) > limits.max_header_bytes
        ):
            raise HeadersTooLarge(f"request headers of {size} bytes; the limit is {limits.max_header_bytes}")
        unseen = not message.end_of_stream and (self.body_mode in UNBUFFERED_MODES or _is_tunnel(headers))
        if (
            not message.end_of_stream
            and not unseen
            and not _content_length_fits(headers.get("content-length", ""), limits.max_body_bytes)
        ):
            raise self._payload_too_large()
        self.route_at_headers = message.end_of_stream or unseen
        self._control_headers = extract_control_headers(headers)
        self.headers = RequestHeaders(headers, end_of_stream=message.end_of_stream, routed_before_body=unseen)
        self.end_of_stream = message.end_of_stream
        self.read_subset_hint(message)

    @property
    def is_streaming(self) -> bool:
        """The body goes through us unseen, piece by piece, and there is more of it."""
        return self.route_at_headers and not self.end_of_stream and self.body_mode is not BodyMode.NONE

    def read_subset_hint(self, message: ProcessingRequest) -> None:
        """The subset hint may come with any message."""
        if message.metadata is not None and (subset := codec.parse_subset_hint(message.metadata)) is not None:
            self.headers.subset_hint = subset

    def append_body(self, message: ProcessingRequest) -> None:
        """Takes a piece of the body; raises PayloadTooLarge."""
        if not self._body.append(message.body):
            raise self._payload_too_large()
        self.end_of_stream = message.end_of_stream or self.body_mode in BUFFERED_MODES
        if self.body_mode is BodyMode.BUFFERED_PARTIAL and not message.end_of_stream:
            self._body.drain()  # Envoy's buffer was full: nobody can read half a body
            self.headers.routed_before_body = True

    def append_early_body(self, message: ProcessingRequest) -> None:
        """Takes a piece of a body that passes before there is a choice; raises PayloadTooLarge."""
        if self.body_mode is not BodyMode.STREAMED and not self._body.append(message.body):
            raise self._payload_too_large()
        self.early_replies += self.forward_body(message)

    def forward_body(self, message: ProcessingRequest) -> list[bytes]:
        """The replies to a piece of a body that passes."""
        self.end_of_stream = message.end_of_stream
        return forward_request_body(self.body_mode, message)

    def take_body(self) -> bytes:
        """The body, complete now."""
        self._complete_body = self._body.drain()
        return self._complete_body

    def discard_body(self) -> None:
        """The body is of no more use."""
        self._body.drain()
        self._complete_body = b""
        self.early_replies = []

    def build_replies(self, route: RoutingDecision) -> list[bytes]:
        """The choice, where the body mode wants it, and all else that Envoy waits for."""
        body = None if self.route_at_headers or self.headers.routed_before_body else route.body
        changes = build_header_mutation(self._control_headers, route.set_headers, body)
        if self.route_at_headers:
            replies = [codec.route_in_headers(route.destination, changes, route.scores), *self.early_replies]
        elif self.body_mode is BodyMode.FULL_DUPLEX:
            replies = [codec.route_in_headers(route.destination, changes, route.scores)]
            replies += self._body_chunks(self._complete_body if body is None else body)
        elif self.has_trailers and not self.end_of_stream:
            return [codec.route_in_trailers(route.destination, route.scores)]
        else:
            replies = [codec.route_in_body(route.destination, changes, route.scores, body)]
        if self.has_trailers:
            replies.append(codec.CONTINUE_REQUEST_TRAILERS)
        return replies

    def _body_chunks(self, body: bytes) -> list[bytes]:
        """Trailers that follow are the end of the stream, and then an empty body is none."""
        if self.has_trailers:
            return [codec.request_body_chunk(piece, False) for piece, _ in split_into_chunks(body)] if body else []
        return [codec.request_body_chunk(piece, last) for piece, last in split_into_chunks(body)]

    def _payload_too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"request body above the limit of {self._limits.max_body_bytes} bytes")


def _content_length_fits(content_length: str, limit: int) -> bool:
    return not content_length.isdecimal() or (len(content_length) < 19 and int(content_length) <= limit)


def _is_tunnel(headers: Mapping[str, str]) -> bool:
    """A tunnel, or a change to another protocol: the body ends when the answer does."""
    method = headers.get(":method")
    return method == "CONNECT" or (method == "GET" and "upgrade" in headers)
