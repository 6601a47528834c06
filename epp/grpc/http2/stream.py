"""One RPC on an HTTP/2 stream: its messages in, its messages out, and the shared way out of its connection."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from struct import Struct

from epp.grpc.framing import RESPONSE, TRAILERS_OK, CallFault, Status, gunzip, trailer_block
from epp.grpc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    HEADERS,
    Code,
    reset,
    window_update,
)
from epp.grpc.http2.send_buffer import Outbox
from epp.grpc.rpc import Handler

log = logging.getLogger("epp.grpc.http2.connection")

PREFIX = Struct(">BI")  # compressed flag and length of a gRPC message
PREFIX_SIZE = PREFIX.size
DATA_WITH_PREFIX = Struct(">IBIBI")
OPEN = -1
QUANTUM = 64 << 10  # of DATA that one stream may send before the next one's turn


class Stream:
    """One RPC; the handler's `Call`."""

    __slots__ = (
        "credit", "gone", "gzip", "half_closed", "handler", "id", "longest", "name", "need", "opened", "out",
        "partial", "queue", "queued", "ready", "reason", "started", "status", "window",
    )  # fmt: skip

    def __init__(self, stream_id: int, name: str, out: Outbox, *, gzip: bool, started: float) -> None:
        self.id = stream_id
        self.name = name
        self.out = out
        self.gzip = gzip
        self.started = started
        self.handler: Handler | None = None
        self.longest = out.limits.message
        self.credit = out.limits.window
        self.window = out.initial
        self.partial: bytearray | None = None
        self.need = 0
        self.queue: deque[memoryview] | None = None
        self.queued = 0
        self.status = OPEN
        self.reason = ""
        self.opened = self.half_closed = self.ready = self.gone = False

    # Call

    def send(self, message: bytes) -> None:
        """Queues one message; see `Call`."""
        if self.status != OPEN:
            return
        out = self.out
        length = len(message)
        size = length + PREFIX_SIZE
        if not self.queued and size <= out.frame and size <= self.window and size <= out.window and size <= out.budget:
            if not self.opened:
                self._open()
            self.window -= size
            out.window -= size
            out.budget -= size
            out.pieces += (DATA_WITH_PREFIX.pack(size << 8 | DATA, 0, self.id, 0, length), message)
        else:
            self._wait(message, length)
        if not out.held:
            out.wake()

    def finish(self, status: int = 0, message: str = "") -> None:
        """Ends the RPC once everything sent is out; see `Call`."""
        if self.status != OPEN:
            return
        self.status = int(status)
        self.reason = message
        self.handler = None
        if not self.queued:
            self._end()
        if not self.out.held:
            self.out.wake()

    # Out

    def _open(self) -> None:
        self.opened = True
        self.out.pieces.append(FRAME.pack(len(RESPONSE) << 8 | HEADERS, END_HEADERS, self.id) + RESPONSE)

    def _wait(self, message: bytes, length: int) -> None:
        out = self.out
        if self.queue is None:
            self.queue = deque()
        self.queue.append(memoryview(PREFIX.pack(0, length)))
        if length:
            self.queue.append(memoryview(message))
        self.queued += length + PREFIX_SIZE
        out.backlog += length + PREFIX_SIZE
        self.kick()
        # The handler is on the stack here and must not hear `lost` from its own call.
        if out.backlog > out.limits.connection_backlog and self not in out.doomed:
            out.doomed.append(self)

    def kick(self) -> None:
        """Puts the stream in line if it has something to send and window of its own."""
        if self.queued and not self.ready and self.window > 0:
            self.ready = True
            self.out.ready.append(self)

    def emit(self) -> None:
        """Sends waiting output, one quantum at most, then ends or gets in line again."""
        queue, out = self.queue, self.out
        if queue is None or not self.queued:
            return
        if not self.opened:
            self._open()
        room = min(self.window, out.window, out.budget, QUANTUM)
        while room > 0 and self.queued:
            size = min(room, out.frame, self.queued)
            room -= size
            self._spend(size)
            out.pieces.append(FRAME.pack(size << 8 | DATA, 0, self.id))
            while size:
                piece = queue[0]
                if len(piece) <= size:
                    queue.popleft()
                else:
                    queue[0] = piece[size:]
                    piece = piece[:size]
                size -= len(piece)
                out.pieces.append(piece)
        if self.queued:
            self.kick()
        elif self.status != OPEN:
            self._end()
        if not self.half_closed and self.status == OPEN:
            self.replenish()

    def _spend(self, size: int) -> None:
        self.queued -= size
        self.window -= size
        self.out.backlog -= size
        self.out.window -= size
        self.out.budget -= size

    def _end(self) -> None:
        """Headers if there were none, trailers, and, if the peer still sends, word that it need not."""
        block = trailer_block(self.status, self.reason) if self.status or self.reason else TRAILERS_OK
        if not self.opened:
            block = RESPONSE + block
        self.out.pieces.append(FRAME.pack(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, self.id) + block)
        if not self.half_closed:
            self.out.pieces.append(reset(self.id, Code.NO_ERROR))
        self.discard(self.status)

    def discard(self, status: int) -> None:
        """Forgets the stream; nothing more is written for it."""
        self._forget_partial()
        self.out.backlog -= self.queued
        self.queued = 0
        self.queue = None
        self.status = status
        self.gone = True
        self.out.ended(self, status)

    # In

    def feed(self, buffer: bytes, start: int, end: int) -> None:
        """Takes DATA; whole messages go to the handler. Raises CallFault."""
        first, handler = start + PREFIX_SIZE, self.handler
        if first <= end and self.partial is None and handler is not None:
            flag, length = PREFIX.unpack_from(buffer, start)
            if first + length == end and not flag and length <= self.longest:
                handler.message(buffer[first:end])  # just one: nearly always
                return
        self._feed(buffer, start, end)

    def _feed(self, buffer: bytes, start: int, end: int) -> None:
        if self.partial is not None:
            start = self._complete(buffer, start, end)
        while end - start >= PREFIX_SIZE:
            handler = self.handler
            if handler is None:
                return
            flag, length = PREFIX.unpack_from(buffer, start)
            self._check(flag, length)
            stop = start + PREFIX_SIZE + length
            if stop > end:
                break
            message = buffer[start + PREFIX_SIZE : stop]
            handler.message(gunzip(message, self.longest) if flag else message)
            start = stop
        if start < end and self.handler is not None:
            self._begin(memoryview(buffer)[start:end])

    def _begin(self, rest: memoryview) -> None:
        self.partial = bytearray(rest)
        self.out.backlog += len(rest)
        self.need = PREFIX_SIZE
        if len(rest) >= PREFIX_SIZE:
            self.need += PREFIX.unpack_from(rest)[1]

    def _complete(self, buffer: bytes, start: int, end: int) -> int:
        """Adds to the message that an earlier frame began; returns where the next one starts."""
        partial = self.partial
        assert partial is not None
        while True:
            size = min(self.need - len(partial), end - start)
            partial += memoryview(buffer)[start : start + size]
            self.out.backlog += size
            start += size
            if len(partial) < self.need:
                if self.out.backlog > self.out.limits.connection_backlog:
                    raise CallFault(Status.RESOURCE_EXHAUSTED, "too many incomplete messages on this connection")
                return start
            flag, length = PREFIX.unpack_from(partial)
            if self.need == PREFIX_SIZE + length:
                break
            self._check(flag, length)
            self.need = PREFIX_SIZE + length
        self.partial = None
        self.out.backlog -= len(partial)
        message = bytes(memoryview(partial)[PREFIX_SIZE:])
        if self.handler is not None:
            self._check(flag, length)
            self.handler.message(gunzip(message, self.longest) if flag else message)
        return start

    def _check(self, flag: int, length: int) -> None:
        if length > self.longest:
            reason = f"message of {length} bytes; at most {self.longest} are accepted"
            raise CallFault(Status.RESOURCE_EXHAUSTED, reason)
        if flag > 1 or (flag and not self.gzip):
            raise CallFault(Status.INTERNAL, "compressed message without a grpc-encoding that says how")

    def replenish(self) -> None:
        """Grants window once half is used, unless the peer does not take what we send."""
        limits = self.out.limits
        if self.credit < limits.window // 2 and self.queued <= limits.stream_backlog:
            self.out.pieces.append(window_update(self.id, limits.window - self.credit))
            self.credit = limits.window

    def end_of_input(self) -> None:
        """The peer half-closed. Raises CallFault when that cuts a message."""
        self.half_closed = True
        if self.partial is not None:
            raise CallFault(Status.INTERNAL, "the request ended within a message")
        if self.handler is not None:
            self.handler.half_closed()

    def fail(self, status: Status, reason: str) -> None:
        """Ends the RPC from the transport's side: the handler hears `lost`, the peer the status."""
        handler = self.handler
        self._forget_partial()
        self.finish(status, reason)
        if handler is not None:
            quietly(handler.lost)

    def _forget_partial(self) -> None:
        if self.partial is not None:
            self.out.backlog -= len(self.partial)
            self.partial = None

    def lost(self) -> None:
        """Ends the RPC without a word to the peer."""
        handler, self.handler = self.handler, None
        self.discard(Status.CANCELLED)
        if handler is not None:
            quietly(handler.lost)


def quietly(call: Callable[[], None]) -> None:
    """A handler that fails while it is told of an end changes nothing."""
    try:
        call()
    except Exception:
        log.exception("handler failed on the loss of its RPC")
