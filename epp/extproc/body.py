"""Bodies in pieces: gathered up to a limit, cut again for Envoy, passed on as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from epp.extproc import codec
from epp.extproc.codec import Incoming, Mode

# Some gateways take no message above 64 KiB; llm-d and GAIE cut here.
PIECE: Final = 62_000


class Body:
    """A request body as it arrives. Past `limit` bytes nothing is kept."""

    __slots__ = ("_limit", "_pieces", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> bool:
        """False once the body is too large."""
        self.size += len(piece)
        if self.size > self._limit:
            self._pieces.clear()
            return False
        if piece:
            self._pieces.append(piece)
        return True

    def take(self) -> bytes:
        """The whole body; the pieces are let go."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def cut(body: bytes) -> Iterator[tuple[bytes | memoryview, bool]]:
    """(piece, whether it is the last); an empty body is one empty piece."""
    if len(body) <= PIECE:
        yield body, True
        return
    view = memoryview(body)
    for start in range(0, len(body), PIECE):
        yield view[start : start + PIECE], start + PIECE >= len(body)


def pass_request(mode: Mode, message: Incoming) -> list[bytes]:
    """The replies that let a piece of the request body go on."""
    if mode is Mode.FULL_DUPLEX:
        return [codec.request_piece(piece, last and message.end) for piece, last in cut(message.body)]
    if mode is Mode.GRPC:
        return [codec.request_message(message)]
    return [codec.CONTINUE_REQUEST_BODY]


def pass_response(mode: Mode, message: Incoming) -> list[bytes]:
    """The replies that let a piece of the response body go on."""
    body, end = message.body, message.end
    if mode is Mode.FULL_DUPLEX:
        if len(body) <= PIECE:
            return [codec.response_piece(body, end)]
        return [codec.response_piece(piece, last and end) for piece, last in cut(body)]
    if mode is Mode.GRPC:
        return [codec.response_message(message)]
    return [codec.CONTINUE_RESPONSE_BODY]
