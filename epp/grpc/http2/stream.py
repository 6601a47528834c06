"""One RPC on an HTTP/2 stream: its messages in, its messages out, and the shared way out of its connection."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from struct import Struct

from epp.grpc.framing import (
    OK_TRAILERS_BLOCK,
    RESPONSE_HEADERS_BLOCK,
    RpcError,
    StatusCode,
    decompress_gzip,
    encode_trailers,
)
from epp.grpc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HEADERS,
    ErrorCode,
    encode_rst_stream,
    encode_window_update,
)
from epp.grpc.http2.send_buffer import SendBuffer
from epp.grpc.rpc import RpcHandler

log = logging.getLogger("epp.grpc.http2.connection")

MESSAGE_PREFIX = Struct(">BI")  # compressed flag and length of a gRPC message
MESSAGE_PREFIX_SIZE = MESSAGE_PREFIX.size
DATA_FRAME_WITH_PREFIX = Struct(">IBIBI")
STATUS_UNSET = -1
SEND_QUANTUM = 64 << 10  # of DATA that one stream may send before the next one's turn


class Stream:
    """One RPC; the handler's `Call`."""

    __slots__ = (
        "closed",
        "gzip",
        "half_closed",
        "handler",
        "headers_sent",
        "id",
        "is_ready",
        "max_message_size",
        "method",
        "partial_message",
        "partial_size",
        "pending",
        "pending_bytes",
        "receive_window",
        "send_buffer",
        "send_window",
        "started_at",
        "status",
        "status_message",
    )  # fmt: skip

    def __init__(self, stream_id: int, name: str, out: SendBuffer, *, gzip: bool, started: float) -> None:
        self.id = stream_id
        self.method = name
        self.send_buffer = out
        self.gzip = gzip
        self.started_at = started
        self.handler: RpcHandler | None = None
        self.max_message_size = out.limits.max_message_size
        self.receive_window = out.limits.stream_window
        self.send_window = out.initial_stream_window
        self.partial_message: bytearray | None = None
        self.partial_size = 0
        self.pending: deque[memoryview] | None = None
        self.pending_bytes = 0
        self.status = STATUS_UNSET
        self.status_message = ""
        self.headers_sent = self.half_closed = self.is_ready = self.closed = False

    # Call

    def send(self, message: bytes) -> None:
        """Queues one message; see `Call`."""
        if self.status != STATUS_UNSET:
            return
        out = self.send_buffer
        length = len(message)
        size = length + MESSAGE_PREFIX_SIZE
        if (
            not self.pending_bytes
            and size <= out.max_frame_size
            and size <= self.send_window
            and size <= out.send_window
            and size <= out.burst_left
        ):
            if not self.headers_sent:
                self._send_headers()
            self.send_window -= size
            out.send_window -= size
            out.burst_left -= size
            out.chunks += (DATA_FRAME_WITH_PREFIX.pack(size << 8 | DATA, 0, self.id, 0, length), message)
        else:
            self._enqueue(message, length)
        if not out.flush_scheduled:
            out.schedule_flush()

    def finish(self, status: int = 0, message: str = "") -> None:
        """Ends the RPC once everything sent is out; see `Call`."""
        if self.status != STATUS_UNSET:
            return
        self.status = int(status)
        self.status_message = message
        self.handler = None
        if not self.pending_bytes:
            self._send_trailers()
        if not self.send_buffer.flush_scheduled:
            self.send_buffer.schedule_flush()

    # Out

    def _send_headers(self) -> None:
        self.headers_sent = True
        self.send_buffer.chunks.append(
            FRAME_HEADER.pack(len(RESPONSE_HEADERS_BLOCK) << 8 | HEADERS, END_HEADERS, self.id) + RESPONSE_HEADERS_BLOCK
        )

    def _enqueue(self, message: bytes, length: int) -> None:
        out = self.send_buffer
        if self.pending is None:
            self.pending = deque()
        self.pending.append(memoryview(MESSAGE_PREFIX.pack(0, length)))
        if length:
            self.pending.append(memoryview(message))
        self.pending_bytes += length + MESSAGE_PREFIX_SIZE
        out.buffered_bytes += length + MESSAGE_PREFIX_SIZE
        self.mark_ready()
        # The handler is on the stack here and must not hear `lost` from its own call.
        if out.buffered_bytes > out.limits.max_connection_backlog and self not in out.overflowed:
            out.overflowed.append(self)

    def mark_ready(self) -> None:
        """Puts the stream in line if it has something to send and window of its own."""
        if self.pending_bytes and not self.is_ready and self.send_window > 0:
            self.is_ready = True
            self.send_buffer.ready_streams.append(self)

    def write_pending(self) -> None:
        """Sends waiting output, one quantum at most, then ends or gets in line again."""
        queue, out = self.pending, self.send_buffer
        if queue is None or not self.pending_bytes:
            return
        if not self.headers_sent:
            self._send_headers()
        room = min(self.send_window, out.send_window, out.burst_left, SEND_QUANTUM)
        while room > 0 and self.pending_bytes:
            size = min(room, out.max_frame_size, self.pending_bytes)
            room -= size
            self._consume_send_window(size)
            out.chunks.append(FRAME_HEADER.pack(size << 8 | DATA, 0, self.id))
            while size:
                piece = queue[0]
                if len(piece) <= size:
                    queue.popleft()
                else:
                    queue[0] = piece[size:]
                    piece = piece[:size]
                size -= len(piece)
                out.chunks.append(piece)
        if self.pending_bytes:
            self.mark_ready()
        elif self.status != STATUS_UNSET:
            self._send_trailers()
        if not self.half_closed and self.status == STATUS_UNSET:
            self.replenish_receive_window()

    def _consume_send_window(self, size: int) -> None:
        self.pending_bytes -= size
        self.send_window -= size
        self.send_buffer.buffered_bytes -= size
        self.send_buffer.send_window -= size
        self.send_buffer.burst_left -= size

    def _send_trailers(self) -> None:
        """Headers if there were none, trailers, and, if the peer still sends, word that it need not."""
        block = (
            encode_trailers(self.status, self.status_message)
            if self.status or self.status_message
            else OK_TRAILERS_BLOCK
        )
        if not self.headers_sent:
            block = RESPONSE_HEADERS_BLOCK + block
        self.send_buffer.chunks.append(
            FRAME_HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, self.id) + block
        )
        if not self.half_closed:
            self.send_buffer.chunks.append(encode_rst_stream(self.id, ErrorCode.NO_ERROR))
        self.close(self.status)

    def close(self, status: int) -> None:
        """Forgets the stream; nothing more is written for it."""
        self._drop_partial_message()
        self.send_buffer.buffered_bytes -= self.pending_bytes
        self.pending_bytes = 0
        self.pending = None
        self.status = status
        self.closed = True
        self.send_buffer.on_stream_end(self, status)

    # In

    def receive_data(self, buffer: bytes, start: int, end: int) -> None:
        """Takes DATA; whole messages go to the handler. Raises CallFault."""
        first, handler = start + MESSAGE_PREFIX_SIZE, self.handler
        if first <= end and self.partial_message is None and handler is not None:
            flag, length = MESSAGE_PREFIX.unpack_from(buffer, start)
            if first + length == end and not flag and length <= self.max_message_size:
                handler.on_message(buffer[first:end])  # just one: nearly always
                return
        self._receive_messages(buffer, start, end)

    def _receive_messages(self, buffer: bytes, start: int, end: int) -> None:
        if self.partial_message is not None:
            start = self._extend_partial_message(buffer, start, end)
        while end - start >= MESSAGE_PREFIX_SIZE:
            handler = self.handler
            if handler is None:
                return
            flag, length = MESSAGE_PREFIX.unpack_from(buffer, start)
            self._check_message_prefix(flag, length)
            stop = start + MESSAGE_PREFIX_SIZE + length
            if stop > end:
                break
            message = buffer[start + MESSAGE_PREFIX_SIZE : stop]
            handler.on_message(decompress_gzip(message, self.max_message_size) if flag else message)
            start = stop
        if start < end and self.handler is not None:
            self._start_partial_message(memoryview(buffer)[start:end])

    def _start_partial_message(self, rest: memoryview) -> None:
        self.partial_message = bytearray(rest)
        self.send_buffer.buffered_bytes += len(rest)
        self.partial_size = MESSAGE_PREFIX_SIZE
        if len(rest) >= MESSAGE_PREFIX_SIZE:
            self.partial_size += MESSAGE_PREFIX.unpack_from(rest)[1]

    def _extend_partial_message(self, buffer: bytes, start: int, end: int) -> int:
        """Adds to the message that an earlier frame began; returns where the next one starts."""
        partial = self.partial_message
        assert partial is not None
        while True:
            size = min(self.partial_size - len(partial), end - start)
            partial += memoryview(buffer)[start : start + size]
            self.send_buffer.buffered_bytes += size
            start += size
            if len(partial) < self.partial_size:
                if self.send_buffer.buffered_bytes > self.send_buffer.limits.max_connection_backlog:
                    raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "too many incomplete messages on this connection")
                return start
            flag, length = MESSAGE_PREFIX.unpack_from(partial)
            if self.partial_size == MESSAGE_PREFIX_SIZE + length:
                break
            self._check_message_prefix(flag, length)
            self.partial_size = MESSAGE_PREFIX_SIZE + length
        self.partial_message = None
        self.send_buffer.buffered_bytes -= len(partial)
        message = bytes(memoryview(partial)[MESSAGE_PREFIX_SIZE:])
        if self.handler is not None:
            self._check_message_prefix(flag, length)
            self.handler.on_message(decompress_gzip(message, self.max_message_size) if flag else message)
        return start

    def _check_message_prefix(self, flag: int, length: int) -> None:
        if length > self.max_message_size:
            reason = f"message of {length} bytes; at most {self.max_message_size} are accepted"
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, reason)
        if flag > 1 or (flag and not self.gzip):
            raise RpcError(StatusCode.INTERNAL, "compressed message without a grpc-encoding that says how")

    def replenish_receive_window(self) -> None:
        """Grants window once half is used, unless the peer does not take what we send."""
        limits = self.send_buffer.limits
        if self.receive_window < limits.stream_window // 2 and self.pending_bytes <= limits.max_stream_backlog:
            self.send_buffer.chunks.append(encode_window_update(self.id, limits.stream_window - self.receive_window))
            self.receive_window = limits.stream_window

    def receive_end(self) -> None:
        """The peer half-closed. Raises CallFault when that cuts a message."""
        self.half_closed = True
        if self.partial_message is not None:
            raise RpcError(StatusCode.INTERNAL, "the request ended within a message")
        if self.handler is not None:
            self.handler.on_half_close()

    def fail(self, status: StatusCode, reason: str) -> None:
        """Ends the RPC from the transport's side: the handler hears `lost`, the peer the status."""
        handler = self.handler
        self._drop_partial_message()
        self.finish(status, reason)
        if handler is not None:
            call_ignoring_errors(handler.on_cancel)

    def _drop_partial_message(self) -> None:
        if self.partial_message is not None:
            self.send_buffer.buffered_bytes -= len(self.partial_message)
            self.partial_message = None

    def cancel(self) -> None:
        """Ends the RPC without a word to the peer."""
        handler, self.handler = self.handler, None
        self.close(StatusCode.CANCELLED)
        if handler is not None:
            call_ignoring_errors(handler.on_cancel)


def call_ignoring_errors(call: Callable[[], None]) -> None:
    """A handler that fails while it is told of an end changes nothing."""
    try:
        call()
    except Exception:
        log.exception("handler failed on the loss of its RPC")
