"""Bodies: buffered up to a limit, split into chunks for Envoy, forwarded as each body mode wants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from epp.extproc.actions import SessionAction
from epp.extproc.codec import BodyMode, Codec, ProcessingRequest, encode

# GAIE's and llm-d's `BodyByteLimit`. Envoy's processing_mode.proto recommends at most 64 KiB for the chunks of a full
# duplex body, and some gateways refuse longer ones (GAIE issue 854).
MAX_CHUNK_BYTES: Final = 62_000


class BodyBuffer:
    """A request body as it arrives. Holds at most `limit` bytes; a body above it is dropped, not truncated."""

    __slots__ = ("_chunks", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self.size = 0

    def append(self, chunk: bytes) -> bool:
        """False once the body is above the limit."""
        self.size += len(chunk)
        if self.size > self._limit:
            self._chunks.clear()
            return False
        if chunk:
            self._chunks.append(chunk)
        return True

    def drain(self) -> bytes:
        """The whole body, which the buffer then no longer holds."""
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def clear(self) -> None:
        """Drops the body."""
        self._chunks.clear()


def split_into_chunks(body: bytes) -> Iterator[tuple[bytes | memoryview, bool]]:
    """(chunk, is it the last) of at most `MAX_CHUNK_BYTES` each; one empty chunk for an empty body."""
    if len(body) <= MAX_CHUNK_BYTES:
        yield body, True
        return
    view = memoryview(body)
    for start in range(0, len(body), MAX_CHUNK_BYTES):
        yield view[start : start + MAX_CHUNK_BYTES], start + MAX_CHUNK_BYTES >= len(body)


def forward_request_body(codec: Codec, mode: BodyMode, message: ProcessingRequest) -> list[bytes]:
    """The replies that let a request body message pass unchanged."""
    if mode is BodyMode.FULL_DUPLEX_STREAMED:
        end = message.end_of_stream
        return [codec.request_body_chunk(chunk, last and end) for chunk, last in split_into_chunks(message.body)]
    if mode is BodyMode.GRPC:
        return [encode.request_body_unchanged(message)]
    return [encode.CONTINUE_REQUEST_BODY]


def forward_response_body(codec: Codec, mode: BodyMode, message: ProcessingRequest) -> list[SessionAction]:
    """The replies that let a response body message pass unchanged, in a list that belongs to the caller."""
    body, end = message.body, message.end_of_stream
    if mode is BodyMode.FULL_DUPLEX_STREAMED:
        if len(body) <= MAX_CHUNK_BYTES:  # nearly every chunk: without the generator
            return [codec.response_body_chunk(body, end)]
        return [codec.response_body_chunk(chunk, last and end) for chunk, last in split_into_chunks(body)]
    if mode is BodyMode.GRPC:
        return [encode.response_body_unchanged(message)]
    return [encode.CONTINUE_RESPONSE_BODY]
