"""A sans-IO HTTP/2 server connection for gRPC (RFC 9113): bytes in, handlers called, bytes out.

Only what gRPC needs exists: requests are POSTs whose DATA are length-prefixed messages, answers are headers, messages
and trailers. No push, no priorities. Memory is bounded by `Limits`; time is read only to refill the reset allowance.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from epp.clock import Clock
from epp.grpc.framing import RpcError, StatusCode, encode_trailers_only
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.connection_control import Control, parse_window_increment
from epp.grpc.http2.frames import END_STREAM, MAX_WINDOW_SIZE, ErrorCode, Http2ConnectionError
from epp.grpc.http2.headers import HeaderDecoder, RpcHeaders
from epp.grpc.http2.stream import STATUS_UNSET, Stream
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import RpcMethods
from epp.grpc.rpc_stats import RpcStats

log = logging.getLogger("epp.grpc.http2.connection")

HALF_CONNECTION_WINDOW = MAX_WINDOW_SIZE // 2
# Streams that the peer itself ended: DATA on them is a fault, on other closed streams it may have been on its way.
MAX_REMEMBERED_STREAMS = 128


class Connection(Control):
    """One client connection. `receive` what was read, then write what `take` gives."""

    def __init__(
        self, methods: RpcMethods, clock: Clock, limits: TransportLimits, observer: RpcStats, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when output appears outside `receive`, once until the next `take`."""
        super().__init__(clock, limits, wake)
        self._methods = methods
        self._rpc_stats = observer
        self._header_decoder = HeaderDecoder(limits.max_header_list_size)
        self._half_closed_ids: deque[int] = deque(maxlen=MAX_REMEMBERED_STREAMS)
        self._half_window = limits.stream_window // 2

    # For the pump

    def receive_data(self, data: bytes) -> None:
        """Takes what was read and calls the handlers. Raises nothing: a broken peer gets GOAWAY and `closing`."""
        if self.closing:
            return
        self._send_buffer.flush_scheduled = True
        try:
            self.feed(data)
        except Http2ConnectionError as fault:
            log.warning("connection ended: %s, %s", fault.code.name, fault.reason)
            self.close(fault.code, fault.reason)

    def data_to_send(self) -> bytes:
        """What is to be written now; more may follow at once if `more`."""
        out = self._send_buffer
        if out.ready_streams or out.overflowed:
            out.flush_scheduled = True
            out.write_ready_streams()
        data = b"".join(out.chunks)
        out.chunks.clear()
        out.burst_left = 0 if self._writing_paused else self._limits.write_burst
        out.flush_scheduled = False
        if self._drain_acknowledged and not self.streams:
            self.closing = True
        return data

    @property
    def has_data_to_send(self) -> bool:
        """Another `take` would give more without anything being received first."""
        out = self._send_buffer
        return bool(out.ready_streams) and out.send_window > 0 and out.burst_left > 0

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Ends everything: handlers hear `lost`, the peer GOAWAY."""
        if self.closing:
            return
        farewell = h2.encode_goaway(self._last_stream_id, code, reason)
        written = [*self._send_buffer.chunks, farewell]
        self.connection_lost()
        self._send_buffer.chunks += written

    def connection_lost(self) -> None:
        """The connection is gone: handlers hear it, nothing is written any more."""
        self.closing = True
        self._send_buffer.flush_scheduled = True
        for stream in list(self.streams.values()):
            # What one handler does on a loss may end another's stream.
            if not stream.closed:
                stream.cancel()
        self._send_buffer.chunks.clear()

    def on_stream_end(self, stream: Stream, status: int) -> None:
        """A stream is over."""
        del self.streams[stream.id]
        self._rpc_stats.record_end(stream.method, status, stream.started_at)

    # Streams

    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """Opens a stream, or ends its input with trailers."""
        if stream_id <= self._last_stream_id or not stream_id & 1:
            self._handle_trailers(flags, stream_id, block)
            return
        self._last_stream_id = stream_id
        head = self._header_decoder.decode_request(block)
        if head.malformed:
            self._send_rst_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif len(self.streams) >= self._limits.max_concurrent_streams or self._drain_acknowledged:
            self._send_rst_stream(stream_id, ErrorCode.REFUSED_STREAM)
        elif head.rejection:
            self._reject_request(stream_id, flags, head.rejection)
        else:
            self._open_stream(stream_id, flags, head)

    def _open_stream(self, stream_id: int, flags: int, head: RpcHeaders) -> None:
        method = self._methods.get(head.path)
        if method is None:
            self._reject_request(
                stream_id, flags, encode_trailers_only(StatusCode.UNIMPLEMENTED, f"unknown method {head.path}")
            )
            return
        stream = Stream(stream_id, head.path, self._send_buffer, gzip=head.gzip, started=self._clock.now())
        stream.half_closed = bool(flags & END_STREAM)
        self.streams[stream_id] = stream
        self._rpc_stats.record_start()
        try:
            handler = method(stream)
        except Exception:
            self._fail_stream(stream)
            return
        if stream.status == STATUS_UNSET:
            stream.handler = handler
            if flags & END_STREAM:
                self._handle_end_of_stream(stream)

    def _handle_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        self._header_decoder.decode_trailers(block)
        stream = self.streams.get(stream_id)
        if stream_id & 1 == 0 or stream_id == 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that clients cannot open")
        if stream is None:
            # Trailers may have crossed our own end of the stream; anything else would be a stream id used twice.
            if stream_id in self._half_closed_ids or not flags & END_STREAM:
                raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        elif stream.half_closed:
            self._reset_faulty_stream(stream, ErrorCode.STREAM_CLOSED)
        elif not flags & END_STREAM:
            self._reset_faulty_stream(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._handle_end_of_stream(stream)

    def _reject_request(self, stream_id: int, flags: int, block: bytes) -> None:
        """Answers without a handler."""
        self._send_buffer.chunks.append(h2.encode_frame(h2.HEADERS, h2.END_HEADERS | END_STREAM, stream_id, block))
        if not flags & END_STREAM:
            self._send_buffer.chunks.append(h2.encode_rst_stream(stream_id, ErrorCode.NO_ERROR))

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """Feeds a stream and accounts for both windows."""
        size = end - start
        self._receive_window -= size
        if self._receive_window < HALF_CONNECTION_WINDOW:
            self._replenish_receive_window()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._handle_data_on_closed_stream(stream_id)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._reset_faulty_stream(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if stream.half_closed:
            self._reset_faulty_stream(stream, ErrorCode.STREAM_CLOSED)
            return
        if flags & END_STREAM:
            # Before the handler hears the last message, lest it ends the RPC and we tell the peer to stop sending.
            stream.half_closed = True
        elif not size:
            self._charge_reset_allowance(1)
        try:
            stream.receive_data(buffer, start, end)
        except RpcError as fault:
            stream.fail(fault.status, fault.reason)
        except Exception:
            self._fail_stream(stream)
        if flags & END_STREAM:
            self._handle_end_of_stream(stream)
        elif stream.receive_window < self._half_window and not stream.closed:
            stream.replenish_receive_window()

    def _replenish_receive_window(self) -> None:
        """Grants the peer a whole window of the connection again."""
        if self._receive_window < 0:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        self._send_buffer.chunks.append(h2.encode_window_update(0, MAX_WINDOW_SIZE - self._receive_window))
        self._receive_window = MAX_WINDOW_SIZE

    def _handle_data_on_closed_stream(self, stream_id: int) -> None:
        self._check_stream_was_opened(stream_id)
        if stream_id in self._half_closed_ids:
            raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")

    def _handle_end_of_stream(self, stream: Stream) -> None:
        self._half_closed_ids.append(stream.id)
        if stream.closed:
            return
        try:
            stream.receive_end()
        except RpcError as fault:
            stream.fail(fault.status, fault.reason)
        except Exception:
            self._fail_stream(stream)

    def _fail_stream(self, stream: Stream) -> None:
        log.exception("handler of %s failed", stream.method)
        stream.fail(StatusCode.INTERNAL, "internal error")

    def _reset_faulty_stream(self, stream: Stream, code: ErrorCode) -> None:
        """Resets a stream on which the peer broke the protocol."""
        stream.cancel()
        self._send_rst_stream(stream.id, code)

    def _send_rst_stream(self, stream_id: int, code: ErrorCode) -> None:
        self._send_buffer.chunks.append(h2.encode_rst_stream(stream_id, code))
        self._charge_reset_allowance(1)

    def _check_stream_was_opened(self, stream_id: int) -> None:
        """DATA or a window for a stream that is not open."""
        if not stream_id & 1 or stream_id > self._last_stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on a stream that was never opened")

    # Other frames of streams

    def on_stream_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """WINDOW_UPDATE, RST_STREAM, PRIORITY, padded DATA; unknown kinds are ignored."""
        if kind == h2.WINDOW_UPDATE:
            self._handle_stream_window_update(stream_id, payload)
        elif kind == h2.RST_STREAM:
            self._handle_rst_stream(stream_id, payload)
        elif kind == h2.DATA:
            self._handle_padded_data(flags, stream_id, payload)
        elif kind == h2.PRIORITY:
            self._handle_priority(stream_id, payload)
        elif kind == h2.PUSH_PROMISE:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _handle_stream_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = parse_window_increment(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_stream_was_opened(stream_id)
            return
        stream.send_window += increment
        if not increment or stream.send_window > MAX_WINDOW_SIZE:
            self._reset_faulty_stream(stream, ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)
        else:
            stream.mark_ready()

    def _handle_padded_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not payload or payload[0] >= len(payload):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
        padding = payload[0] + 1
        self._receive_window -= padding
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.receive_window -= padding
        self.on_data(payload, 1, len(payload) - payload[0], flags, stream_id)

    def _handle_rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is 4 octets")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_stream_was_opened(stream_id)
            return
        stream.cancel()
        # Envoy ends every ext_proc stream with a reset: only one that comes before any answer is suspicious.
        if not stream.headers_sent:
            self._charge_reset_allowance(1)

    def _handle_priority(self, stream_id: int, payload: bytes) -> None:
        stream = self.streams.get(stream_id)
        depends_on = int.from_bytes(payload[:4], "big") & MAX_WINDOW_SIZE
        if stream is not None and (len(payload) != 5 or depends_on == stream_id):
            self._reset_faulty_stream(
                stream, ErrorCode.FRAME_SIZE_ERROR if len(payload) != 5 else ErrorCode.PROTOCOL_ERROR
            )
