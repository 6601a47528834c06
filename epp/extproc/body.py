"""Bodies in pieces: gathered up to a limit, cut again for Envoy, passed on as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from epp.extproc import codec
from epp.extproc.codec import BodyMode, ProcessingRequest

# Some gateways take no message above 64 KiB; llm-d and GAIE cut here.
MAX_CHUNK_BYTES: Final = 62_000


class BodyBuffer:
    """A request body as it arrives. Past `limit` bytes nothing is kept."""

    __slots__ = ("_chunks", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self.size = 0

    def append(self, piece: bytes) -> bool:
        """False once the body is too large."""
        self.size += len(piece)
        if self.size > self._limit:
            self._chunks.clear()
            return False
        if piece:
            self._chunks.append(piece)
        return True

    def drain(self) -> bytes:
        """The whole body; the pieces are let go."""
        pieces, self._chunks = self._chunks, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def split_into_chunks(body: bytes) -> Iterator[tuple[bytes | memoryview, bool]]:
    """(piece, whether it is the last); an empty body is one empty piece."""
    if len(body) <= MAX_CHUNK_BYTES:
        yield body, True
        return
    view = memoryview(body)
    for start in range(0, len(body), MAX_CHUNK_BYTES):
        yield view[start : start + MAX_CHUNK_BYTES], start + MAX_CHUNK_BYTES >= len(body)


def forward_request_body(mode: BodyMode, message: ProcessingRequest) -> list[bytes]:
    """The replies that let a piece of the request body go on."""
    if mode is BodyMode.FULL_DUPLEX:
        return [
            codec.request_body_chunk(piece, last and message.end_of_stream)
            for piece, last in split_into_chunks(message.body)
        ]
    if mode is BodyMode.GRPC:
        return [codec.request_body_unchanged(message)]
    return [codec.CONTINUE_REQUEST_BODY]


def forward_response_body(mode: BodyMode, message: ProcessingRequest) -> list[bytes]:
    """The replies that let a piece of the response body go on."""
    body, end = message.body, message.end_of_stream
    if mode is BodyMode.FULL_DUPLEX:
        if len(body) <= MAX_CHUNK_BYTES:
            return [codec.response_body_chunk(body, end)]
        return [codec.response_body_chunk(piece, last and end) for piece, last in split_into_chunks(body)]
    if mode is BodyMode.GRPC:
        return [codec.response_body_unchanged(message)]
    return [codec.CONTINUE_RESPONSE_BODY]
