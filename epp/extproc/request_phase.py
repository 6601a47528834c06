"""The request phase of one stream: what has arrived of the request, and the replies that Envoy waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.errors import HeadersTooLarge, PayloadTooLarge
from epp.extproc.body import BodyBuffer, forward_request_body, split_into_chunks
from epp.extproc.codec import BodyMode, Codec, ProcessingRequest, encode
from epp.extproc.codec.decode import count_header_bytes, parse_subset_hint
from epp.extproc.header_mutation import build_header_mutation, extract_control_headers
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision

BUFFERED_MODES: Final = (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
UNBUFFERED_MODES: Final = (BodyMode.STREAMED, BodyMode.NONE, BodyMode.GRPC)


class RequestLimits(msgspec.Struct, frozen=True):
    """Limits of one request, in bytes. `mark_responses`: add llm-d's `x-went-into-resp-headers: true` to responses."""

    max_body_bytes: int = 64 << 20
    max_header_bytes: int = 64 << 10
    mark_responses: bool = True


class RequestPhase:
    """Collects a request. Owns the body until the request is answered.

    `route_at_headers`: the destination goes into the reply to the headers, whatever follows them. `early_replies` are
    the replies to body messages that arrived before the decision. `end_of_stream`: no more of the request will
    arrive. `has_trailers`: trailers arrived and wait for a reply.
    """

    __slots__ = (
        "_body",
        "_codec",
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

    def __init__(self, limits: RequestLimits, codec: Codec) -> None:
        self._limits = limits
        self._codec = codec
        self._body = BodyBuffer(limits.max_body_bytes)
        self._control_headers: frozenset[str] = frozenset()
        self._complete_body = b""
        self.headers = RequestHeaders({})
        self.body_mode = BodyMode.FULL_DUPLEX_STREAMED
        self.route_at_headers = False
        self.early_replies: list[bytes] = []
        self.end_of_stream = False
        self.has_trailers = False

    def receive_headers(self, message: ProcessingRequest) -> None:
        """Takes the headers. Raises HeadersTooLarge, and PayloadTooLarge if content-length is above the limit."""
        if message.body_modes is not None:
            self.body_mode = message.body_modes[0]
        headers, limits = message.headers or {}, self._limits
        # Counting takes time, and the message is longer than its headers: a short message has no long headers. A long
        # one may hold a long subset hint instead.
        if len(message.data) > limits.max_header_bytes:
            size = count_header_bytes(headers)
            if size > limits.max_header_bytes:
                raise HeadersTooLarge(f"request headers of {size} bytes; the limit is {limits.max_header_bytes}")
        end_of_stream = message.end_of_stream
        before_body = not end_of_stream and (self.body_mode in UNBUFFERED_MODES or _is_tunnel(headers))
        self.route_at_headers = end_of_stream or before_body
        content_length = headers.get("content-length", "")
        if not self.route_at_headers and not _content_length_fits(content_length, limits.max_body_bytes):
            raise self._payload_too_large()
        self._control_headers = extract_control_headers(headers)
        self.headers = RequestHeaders(headers, end_of_stream=end_of_stream, routed_before_body=before_body)
        self.end_of_stream = end_of_stream
        self.read_subset_hint(message)

    @property
    def is_streaming(self) -> bool:
        """The body is forwarded chunk by chunk without being read, and its end has not arrived."""
        return self.route_at_headers and not self.end_of_stream and self.body_mode is not BodyMode.NONE

    def read_subset_hint(self, message: ProcessingRequest) -> None:
        """Envoy may send the subset hint with any message before the decision."""
        if message.metadata is not None and (subset := parse_subset_hint(message.metadata)) is not None:
            self.headers.subset_hint = subset

    def append_body(self, message: ProcessingRequest) -> None:
        """Buffers a body message; raises PayloadTooLarge."""
        if not self._body.append(message.body):
            raise self._payload_too_large()
        self.end_of_stream = message.end_of_stream or self.body_mode in BUFFERED_MODES
        if self.body_mode is BodyMode.BUFFERED_PARTIAL and not message.end_of_stream:
            # Envoy's buffer was full and the rest of the body does not come to us: a part of it cannot be parsed.
            self._body.clear()
            self.headers.routed_before_body = True

    def append_early_body(self, message: ProcessingRequest) -> None:
        """Keeps the replies to a forwarded body message until the decision is made; raises PayloadTooLarge."""
        if self.body_mode is not BodyMode.STREAMED and not self._body.append(message.body):
            raise self._payload_too_large()
        self.early_replies += self.forward_body(message)

    def forward_body(self, message: ProcessingRequest) -> list[bytes]:
        """The replies to a forwarded body message."""
        self.end_of_stream = message.end_of_stream
        return forward_request_body(self._codec, self.body_mode, message)

    def take_body(self) -> bytes:
        """The complete body, for the decision; also kept until `build_replies`."""
        self._complete_body = self._body.drain()
        return self._complete_body

    def discard_body(self) -> None:
        """Frees the body and the replies that contain it."""
        self._body.clear()
        self._complete_body = b""
        self.early_replies = []

    def build_replies(self, decision: RoutingDecision) -> list[bytes]:
        """The replies to everything received so far, in the order that Envoy requires: headers, body, trailers.

        The reply that the body mode allows to carry the destination carries it. Only the complete body of a full
        duplex or buffered request is replaced by the decision's.
        """
        codec = self._codec
        body = None if self.route_at_headers or self.headers.routed_before_body else decision.body
        mutation = build_header_mutation(self._control_headers, decision.set_headers, body)
        if self.route_at_headers:
            replies = [codec.route_in_headers(decision.destination, mutation, decision.scores), *self.early_replies]
        elif self.body_mode is BodyMode.FULL_DUPLEX_STREAMED:
            replies = [codec.route_in_headers(decision.destination, mutation, decision.scores)]
            replies += self._encode_body(self._complete_body if body is None else body)
        elif self.has_trailers and not self.end_of_stream:  # buffered, and no body message came before the trailers
            return [encode.route_in_trailers(decision.destination, decision.scores)]
        else:
            replies = [encode.route_in_body(decision.destination, mutation, decision.scores, body)]
        if self.has_trailers:
            replies.append(encode.CONTINUE_REQUEST_TRAILERS)
        return replies

    def _encode_body(self, body: bytes) -> list[bytes]:
        """The body in full duplex. If trailers follow they end the stream, and an empty body has no chunk."""
        codec = self._codec
        if self.has_trailers:
            return [codec.request_body_chunk(chunk, False) for chunk, _ in split_into_chunks(body)] if body else []
        return [codec.request_body_chunk(chunk, last) for chunk, last in split_into_chunks(body)]

    def _payload_too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"request body above the limit of {self._limits.max_body_bytes} bytes")


def _content_length_fits(content_length: str, limit: int) -> bool:
    """Whether this content-length header announces no more than `limit` bytes. A malformed one is Envoy's to reject.

    Numbers of 19 digits and more exceed every limit; to convert thousands of digits would take `int` long.
    """
    return not content_length.isdecimal() or (len(content_length) < 19 and int(content_length) <= limit)


def _is_tunnel(headers: Mapping[str, str]) -> bool:
    """CONNECT (RFC 9110, 9.3.6) or a WebSocket handshake (RFC 6455, 4.1): the body ends when the response does.

    An Upgrade header with another method (h2c allows any) is ignored: that request has an ordinary body.
    """
    method = headers.get(":method")
    return method == "CONNECT" or (method == "GET" and "upgrade" in headers)
