"""One RPC on an HTTP/2 stream: gRPC messages in both directions, and the stream's flow control (RFC 9113, 5.2).

Messages are framed as gRPC's PROTOCOL-HTTP2.md says: a compressed flag, a length of four octets, the message.
"""

from __future__ import annotations

import logging
from collections import deque
from struct import Struct
from typing import Protocol

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

log = logging.getLogger("epp.grpc.http2")

MESSAGE_PREFIX = Struct(">BI")  # compressed flag, message length
MESSAGE_PREFIX_SIZE = MESSAGE_PREFIX.size
DATA_FRAME_WITH_PREFIX = Struct(">IBIBI")  # frame header and message prefix of a message in one frame
_RESPONSE_HEADERS_WORD = len(RESPONSE_HEADERS_BLOCK) << 8 | HEADERS
STATUS_UNSET = -1
SEND_QUANTUM = 64 << 10  # octets of DATA that a waiting stream may write before the next one has its turn


class StreamOwner(Protocol):
    """The connection of a stream."""

    def on_stream_closed(self, stream: Stream, status: int) -> None:
        """The stream has ended with this grpc-status. Called once for each stream."""


class Stream:
    """One RPC, the handler's `ServerCall`; its owner feeds it with the stream's frames."""

    __slots__ = (
        "closed", "gzip", "half_closed", "handler", "headers_sent", "id", "is_ready", "max_message_size", "method",
        "owner", "partial_message", "partial_size", "pending", "pending_bytes", "receive_window", "send_buffer",
        "send_window", "started_at", "status", "status_message",
    )  # fmt: skip

    def __init__(
        self,
        stream_id: int,
        method: str,
        send_buffer: SendBuffer,
        owner: StreamOwner,
        *,
        gzip: bool,
        started_at: float,
    ) -> None:
        self.id = stream_id
        self.method = method
        self.send_buffer = send_buffer
        self.owner = owner
        self.gzip = gzip
        self.started_at = started_at
        self.handler: RpcHandler | None = None
        limits = send_buffer.limits
        self.max_message_size = limits.max_message_size
        self.receive_window = limits.stream_window
        self.send_window = send_buffer.initial_stream_window
        # A request message that arrived in part, prefix included, and the size at which it is complete.
        self.partial_message: bytearray | None = None
        self.partial_size = 0
        # Response messages, prefixes included, that wait for a window.
        self.pending: deque[memoryview] | None = None
        self.pending_bytes = 0
        self.status = STATUS_UNSET
        self.status_message = ""
        # half_closed: by the peer, which sends no more DATA (RFC 9113, 5.1).
        self.headers_sent = self.half_closed = self.is_ready = self.closed = False

    # ServerCall

    def send(self, message: bytes) -> None:
        """Queues one message; see `ServerCall`."""
        if self.status != STATUS_UNSET:
            return
        buffer = self.send_buffer
        length = len(message)
        size = length + MESSAGE_PREFIX_SIZE
        if (
            not self.pending_bytes
            and size <= buffer.max_frame_size
            and size <= self.send_window
            and size <= buffer.send_window
            and size <= buffer.burst_left
        ):
            if not self.headers_sent:
                self._send_headers()
            self.send_window -= size
            buffer.send_window -= size
            buffer.burst_left -= size
            buffer.chunks += (DATA_FRAME_WITH_PREFIX.pack(size << 8 | DATA, 0, self.id, 0, length), message)
        else:
            self._enqueue(message, length)
        if not buffer.flush_scheduled:
            buffer.request_flush()

    def finish(self, status: int = 0, message: str = "") -> None:
        """Ends the RPC after everything sent so far; see `ServerCall`."""
        if self.status != STATUS_UNSET:
            return
        self.status = int(status)
        self.status_message = message
        self.handler = None
        if not self.pending_bytes:
            self._send_trailers()
        if not self.send_buffer.flush_scheduled:
            self.send_buffer.request_flush()

    # Output

    def _send_headers(self) -> None:
        self.headers_sent = True
        self.send_buffer.chunks += (
            FRAME_HEADER.pack(_RESPONSE_HEADERS_WORD, END_HEADERS, self.id), RESPONSE_HEADERS_BLOCK,
        )  # fmt: skip

    def _enqueue(self, message: bytes, length: int) -> None:
        buffer = self.send_buffer
        if self.pending is None:
            self.pending = deque()
        self.pending.append(memoryview(MESSAGE_PREFIX.pack(0, length)))
        if length:
            self.pending.append(memoryview(message))
        self.pending_bytes += length + MESSAGE_PREFIX_SIZE
        buffer.buffered_bytes += length + MESSAGE_PREFIX_SIZE
        self.mark_ready()
        if buffer.buffered_bytes > buffer.limits.max_connection_backlog and self not in buffer.overflowed:
            buffer.overflowed.append(self)

    def mark_ready(self) -> None:
        """Gets in line to write if there is output and the stream's own send window is open."""
        if self.pending_bytes and not self.is_ready and self.send_window > 0:
            self.is_ready = True
            self.send_buffer.ready_streams.append(self)

    def write_pending(self) -> None:
        """Writes pending output, SEND_QUANTUM octets at most; then ends the stream or gets in line again."""
        pending, buffer = self.pending, self.send_buffer
        if pending is None or not self.pending_bytes:
            return
        if not self.headers_sent:
            self._send_headers()
        room = min(self.send_window, buffer.send_window, buffer.burst_left, SEND_QUANTUM)
        while room > 0 and self.pending_bytes:
            size = min(room, buffer.max_frame_size, self.pending_bytes)
            room -= size
            self._spend_windows(size)
            buffer.chunks.append(FRAME_HEADER.pack(size << 8 | DATA, 0, self.id))
            while size:
                chunk = pending[0]
                if len(chunk) <= size:
                    pending.popleft()
                else:
                    pending[0] = chunk[size:]
                    chunk = chunk[:size]
                size -= len(chunk)
                buffer.chunks.append(chunk)
        if self.pending_bytes:
            self.mark_ready()
        elif self.status != STATUS_UNSET:
            self._send_trailers()
        if not self.half_closed and self.status == STATUS_UNSET:
            self.replenish_receive_window()

    def _spend_windows(self, size: int) -> None:
        buffer = self.send_buffer
        self.pending_bytes -= size
        self.send_window -= size
        buffer.buffered_bytes -= size
        buffer.send_window -= size
        buffer.burst_left -= size

    def _send_trailers(self) -> None:
        """Ends the stream: trailers, or Trailers-Only if no message was sent (gRPC's PROTOCOL-HTTP2.md)."""
        block = OK_TRAILERS_BLOCK
        if self.status or self.status_message:
            block = encode_trailers(self.status, self.status_message)
        if not self.headers_sent:
            block = RESPONSE_HEADERS_BLOCK + block
        chunks = self.send_buffer.chunks
        chunks.append(FRAME_HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, self.id) + block)
        if not self.half_closed:
            # After a complete response, NO_ERROR asks the client to stop sending its request (RFC 9113, 8.1; "Early
            # Server Closure" in PROTOCOL-HTTP2.md).
            chunks.append(encode_rst_stream(self.id, ErrorCode.NO_ERROR))
        self.close(self.status)

    def close(self, status: int) -> None:
        """Drops everything buffered and reports the end; nothing more is written for this stream."""
        self._drop_partial_message()
        self.send_buffer.buffered_bytes -= self.pending_bytes
        self.pending_bytes = 0
        self.pending = None
        self.status = status
        self.closed = True
        self.owner.on_stream_closed(self, status)

    # Input

    def receive_data(self, buffer: bytes, start: int, end: int) -> None:
        """Handles DATA octets; complete messages go to the handler. Raises RpcError."""
        first, handler = start + MESSAGE_PREFIX_SIZE, self.handler
        if first <= end and self.partial_message is None and handler is not None:
            compressed, length = MESSAGE_PREFIX.unpack_from(buffer, start)
            if first + length == end and not compressed and length <= self.max_message_size:
                handler.on_message(buffer[first:end])  # exactly one message: by far the most frequent case
                return
        self._receive_messages(buffer, start, end)

    def _receive_messages(self, buffer: bytes, start: int, end: int) -> None:
        if self.partial_message is not None:
            start = self._extend_partial_message(buffer, start, end)
        while end - start >= MESSAGE_PREFIX_SIZE:
            handler = self.handler
            if handler is None:
                return
            compressed, length = MESSAGE_PREFIX.unpack_from(buffer, start)
            self._check_message_prefix(compressed, length)
            stop = start + MESSAGE_PREFIX_SIZE + length
            if stop > end:
                break
            message = buffer[start + MESSAGE_PREFIX_SIZE : stop]
            handler.on_message(decompress_gzip(message, self.max_message_size) if compressed else message)
            start = stop
        if start < end and self.handler is not None:
            self._start_partial_message(memoryview(buffer)[start:end])

    def _start_partial_message(self, part: memoryview) -> None:
        self.partial_message = bytearray(part)
        self.send_buffer.buffered_bytes += len(part)
        self.partial_size = MESSAGE_PREFIX_SIZE
        if len(part) >= MESSAGE_PREFIX_SIZE:
            self.partial_size += MESSAGE_PREFIX.unpack_from(part)[1]

    def _extend_partial_message(self, buffer: bytes, start: int, end: int) -> int:
        """Adds to the message that an earlier DATA frame began; returns where the next message starts."""
        partial, shared = self.partial_message, self.send_buffer
        assert partial is not None
        while True:
            size = min(self.partial_size - len(partial), end - start)
            partial += memoryview(buffer)[start : start + size]
            shared.buffered_bytes += size
            start += size
            if len(partial) < self.partial_size:
                if shared.buffered_bytes > shared.limits.max_connection_backlog:
                    raise RpcError(
                        StatusCode.RESOURCE_EXHAUSTED, "too many incomplete request messages on this connection"
                    )
                return start
            compressed, length = MESSAGE_PREFIX.unpack_from(partial)
            if self.partial_size == MESSAGE_PREFIX_SIZE + length:
                break
            self._check_message_prefix(compressed, length)
            self.partial_size = MESSAGE_PREFIX_SIZE + length
        self.partial_message = None
        shared.buffered_bytes -= len(partial)
        message = bytes(memoryview(partial)[MESSAGE_PREFIX_SIZE:])
        if self.handler is not None:
            self._check_message_prefix(compressed, length)
            self.handler.on_message(decompress_gzip(message, self.max_message_size) if compressed else message)
        return start

    def _check_message_prefix(self, compressed: int, length: int) -> None:
        if length > self.max_message_size:
            reason = f"message of {length} bytes; at most {self.max_message_size} are accepted"
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, reason)
        if compressed > 1:
            raise RpcError(StatusCode.INTERNAL, f"invalid Compressed-Flag {compressed}: expected 0 or 1")
        # gRPC's compression.md: a compressed message without grpc-encoding is INTERNAL.
        if compressed and not self.gzip:
            raise RpcError(StatusCode.INTERNAL, "compressed message, but no grpc-encoding in the request headers")

    def replenish_receive_window(self) -> None:
        """Grants the peer a full window once half of it is used, unless the peer leaves our output unread."""
        limits = self.send_buffer.limits
        if self.receive_window < limits.stream_window // 2 and self.pending_bytes <= limits.max_stream_backlog:
            self.send_buffer.chunks.append(encode_window_update(self.id, limits.stream_window - self.receive_window))
            self.receive_window = limits.stream_window

    def receive_end(self) -> None:
        """The peer half-closed the stream. Raises RpcError if that leaves a message incomplete."""
        self.half_closed = True
        if self.partial_message is not None:
            raise RpcError(StatusCode.INTERNAL, "the request ended within a message")
        if self.handler is not None:
            self.handler.on_half_close()

    # Early ends

    def fail(self, status: StatusCode, reason: str) -> None:
        """Ends the RPC with an error of the transport: the peer gets the status, the handler `on_cancel`."""
        handler = self.handler
        self._drop_partial_message()
        self.finish(status, reason)
        if handler is not None:
            _notify_cancelled(handler)

    def cancel(self) -> None:
        """Ends the RPC without writing anything: the stream was reset or the connection is gone."""
        handler, self.handler = self.handler, None
        self.close(StatusCode.CANCELLED)
        if handler is not None:
            _notify_cancelled(handler)

    def abort_overflow(self) -> None:
        """See `QueuedStream`."""
        if self.pending_bytes:
            self.send_buffer.chunks.append(encode_rst_stream(self.id, ErrorCode.ENHANCE_YOUR_CALM))
            self.cancel()

    def _drop_partial_message(self) -> None:
        if self.partial_message is not None:
            self.send_buffer.buffered_bytes -= len(self.partial_message)
            self.partial_message = None


def _notify_cancelled(handler: RpcHandler) -> None:
    """Calls `on_cancel`; an exception there is logged, since the RPC has ended already."""
    try:
        handler.on_cancel()
    except Exception:
        log.exception("handler failed on the cancellation of its RPC")
