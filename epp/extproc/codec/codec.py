"""The codec of one server: decoding and encoding with caches, for the messages that every request needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from epp.extproc.codec import decode, encode
from epp.extproc.codec.decode import BODY_TAGS, BODY_TYPES, TYPE_BY_TAG, ProcessingRequest
from epp.extproc.codec.encode import (
    CHUNK_END_OF_STREAM,
    NO_MUTATION,
    REQUEST_BODY_TAG,
    RESPONSE_BODY_TAG,
    HeaderMutation,
)
from epp.extproc.codec.header_cache import HeaderBlockCache
from epp.extproc.codec.wire import BODY_END_OF_STREAM, HEADERS_END_OF_STREAM, parse_phase

MAX_CACHED_CONTEXTS: Final = 256
MAX_CACHED_CONTEXT_BYTES: Final = 128  # longer ones hold subset hints, or other filters' metadata of one request
MAX_CACHED_ENDS: Final = 64
MAX_END_MESSAGE_BYTES: Final = 8  # a message that ends a body and holds no data: there are only a few different ones
MAX_CACHED_DESTINATIONS: Final = 4096
MAX_CACHED_CHUNK_SIZES: Final = 1024

_EMPTY_METADATA: Final = b"\x42\0"  # ProcessingRequest.metadata_context = {}: Envoy sends it with every message


class Codec:
    """Decodes ProcessingRequests and encodes ProcessingResponses. Not thread-safe; belongs to one event loop."""

    __slots__ = ("_chunk_prefix", "_decode_end", "_header_blocks", "_parse_message_context", "_route_in_headers")

    def __init__(self) -> None:
        self._header_blocks = HeaderBlockCache()
        self._parse_message_context = lru_cache(MAX_CACHED_CONTEXTS)(decode.parse_message_context)
        self._decode_end = lru_cache(MAX_CACHED_ENDS)(decode.decode_with_protobuf)
        self._route_in_headers = lru_cache(MAX_CACHED_DESTINATIONS)(encode.route_in_headers)
        self._chunk_prefix = lru_cache(MAX_CACHED_CHUNK_SIZES)(encode.chunk_prefix)

    def decode(self, data: bytes) -> ProcessingRequest:
        """The message; raises DecodeError. The same result as `decode.decode_with_protobuf`, sooner."""
        if len(data) <= MAX_END_MESSAGE_BYTES and data[:1] in BODY_TAGS:
            return self._decode_end(data)
        try:
            request = self._decode_fast(data)
        except (IndexError, UnicodeDecodeError):
            request = None
        return decode.decode_with_protobuf(data) if request is None else request

    def _decode_fast(self, data: bytes) -> ProcessingRequest | None:
        """A message in Envoy's usual form: the phase first, then the small fields. None for every other form."""
        message_type = TYPE_BY_TAG.get(data[0])
        if message_type is None:
            return None
        is_body = message_type in BODY_TYPES
        phase = parse_phase(data, BODY_END_OF_STREAM if is_body else HEADERS_END_OF_STREAM)
        if phase is None:
            return None
        content, end_of_stream, stop = phase
        if is_body:
            request = ProcessingRequest(message_type, data, end_of_stream, content)
        elif (headers := self._header_blocks.decode(content)) is not None:
            request = ProcessingRequest(message_type, data, end_of_stream, b"", headers)
        else:
            return None
        rest = data[stop:]
        if rest == _EMPTY_METADATA or (not rest and stop == len(data)):
            return request
        return request if rest and self._decode_message_context(request, rest) else None

    def _decode_message_context(self, request: ProcessingRequest, rest: bytes) -> bool:
        """Sets the fields of `request` that `rest` holds. False if `rest` holds a phase too, which would be merged."""
        try:
            is_short = len(rest) <= MAX_CACHED_CONTEXT_BYTES
            context = self._parse_message_context(rest) if is_short else decode.parse_message_context(rest)
        except Exception:  # protobuf's C extension has no public type for its decode error
            return False
        if context is None:
            return False
        request.body_modes, request.metadata, request.observability_mode = context
        return True

    def route_in_headers(self, destination: str, mutation: HeaderMutation, scores: Mapping[str, float] | None) -> bytes:
        """The reply to request headers that names the destination, as header and as metadata."""
        if scores is not None:
            return encode.route_in_headers(destination, mutation, scores)
        route = self._route_in_headers(destination)
        # Parsing two encoded messages in a row merges them ("Last One Wins" in protobuf's encoding guide), so the
        # mutation can be appended to the cached route.
        return route if mutation is NO_MUTATION else route + encode.mutate_request_headers(mutation)

    def request_body_chunk(self, chunk: bytes | memoryview, end_of_stream: bool) -> bytes:
        """A chunk of the request body on its way to the model server (full duplex)."""
        prefix = self._chunk_prefix(REQUEST_BODY_TAG, len(chunk), end_of_stream)
        return b"".join((prefix, chunk, CHUNK_END_OF_STREAM if end_of_stream else b""))

    def response_body_chunk(self, chunk: bytes | memoryview, end_of_stream: bool) -> bytes:
        """A chunk of the response body on its way to the client (full duplex)."""
        chunk_prefix = self._chunk_prefix  # CPython 3.11 calls a local sooner than a callable attribute
        prefix = chunk_prefix(RESPONSE_BODY_TAG, len(chunk), end_of_stream)
        if end_of_stream:
            return b"".join((prefix, chunk, CHUNK_END_OF_STREAM))
        return prefix + chunk
