"""A sans-IO HTTP/2 server connection for gRPC (RFC 9113): octets in, calls of RPC handlers, octets out.

The owner of the socket passes what it read to `receive_data` and writes what `data_to_send` returns. Handlers run
synchronously within these calls. Only what gRPC needs is implemented: requests are POSTs whose DATA are
length-prefixed messages; there is no server push, and priorities are ignored. Memory is bounded by `TransportLimits`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from epp.clock import Clock
from epp.grpc.framing import RpcError, StatusCode, encode_trailers_only
from epp.grpc.http2 import frames
from epp.grpc.http2.frame_reader import FrameReader
from epp.grpc.http2.frames import END_STREAM, MAX_WINDOW_SIZE, ErrorCode, Http2ConnectionError
from epp.grpc.http2.headers import HeaderDecoder, RpcHeaders
from epp.grpc.http2.send_buffer import SendBuffer
from epp.grpc.http2.stream import STATUS_UNSET, Stream
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import RpcMethods
from epp.grpc.rpc_stats import RpcStats

log = logging.getLogger("epp.grpc.http2")

HALF_CONNECTION_WINDOW = MAX_WINDOW_SIZE // 2
# Ids of half-closed streams that are remembered after the stream is gone. DATA on them is a STREAM_CLOSED error (RFC
# 9113, 5.1); on streams that we ended first, DATA may have been in transit and is ignored.
MAX_REMEMBERED_STREAMS = 128
DRAIN_PING = b"epp-bye\0"

_CONNECTION_FRAMES = frozenset((frames.SETTINGS, frames.PING, frames.GOAWAY))
_STREAM_FRAMES = frozenset((frames.DATA, frames.RST_STREAM, frames.PRIORITY, frames.PUSH_PROMISE))


class Connection:
    """One client connection; owns its streams, from their HEADERS to `on_stream_closed`.

    Nothing is raised to the owner: after a connection error or `close`, `closing` is True, `data_to_send` returns the
    GOAWAY, and the owner closes the socket. When the socket is lost it calls `connection_lost`. Not thread-safe.
    """

    def __init__(
        self,
        methods: RpcMethods,
        clock: Clock,
        limits: TransportLimits,
        rpc_stats: RpcStats,
        schedule_flush: Callable[[], None],
    ) -> None:
        """`schedule_flush` asks for `data_to_send` to be called: output appeared outside `receive_data`.

        It is called at most once before the next `data_to_send`.
        """
        self.streams: dict[int, Stream] = {}
        """Open and half-closed streams by id."""
        self.closing = False
        """No input is handled any more, and no output follows the next `data_to_send`."""
        self._methods = methods
        self._clock = clock
        self._limits = limits
        self._rpc_stats = rpc_stats
        self._send_buffer = SendBuffer(limits, schedule_flush)
        self._frame_reader = FrameReader(limits, self)
        self._header_decoder = HeaderDecoder(limits)
        self._reset_allowance = ResetAllowance(clock, limits)
        self._last_stream_id = 0
        self._half_closed_ids: deque[int] = deque(maxlen=MAX_REMEMBERED_STREAMS)
        # Octets of DATA that the peer may still send on all streams together.
        self._receive_window = MAX_WINDOW_SIZE
        self._half_stream_window = limits.stream_window // 2
        # SETTINGS and PING acknowledgements written since the socket is full.
        self._unread_acks = 0
        self._draining = False
        self._drain_acknowledged = False
        self._send_server_preface()

    def _send_server_preface(self) -> None:
        settings = {
            frames.SETTINGS_MAX_CONCURRENT_STREAMS: self._limits.max_concurrent_streams,
            frames.SETTINGS_INITIAL_WINDOW_SIZE: self._limits.stream_window,
            frames.SETTINGS_MAX_FRAME_SIZE: self._limits.max_frame_size,
            frames.SETTINGS_MAX_HEADER_LIST_SIZE: self._limits.max_header_list_size,
        }
        self._send_buffer.chunks += (
            frames.encode_settings(settings),
            frames.encode_window_update(0, MAX_WINDOW_SIZE - frames.DEFAULT_WINDOW_SIZE),
        )

    # For the owner of the socket

    @property
    def preface_received(self) -> bool:
        """The client has sent its connection preface, the first SETTINGS included."""
        return self._frame_reader.preface_received

    def receive_data(self, data: bytes) -> None:
        """Handles octets read from the socket."""
        if self.closing:
            return
        self._send_buffer.flush_scheduled = True
        try:
            self._frame_reader.feed(data)
        except Http2ConnectionError as error:
            log.warning("connection ended: %s, %s", error.code.name, error.reason)
            self.close(error.code, error.reason)

    def data_to_send(self) -> bytes:
        """Octets to write now; call again at once while `has_data_to_send`."""
        data = self._send_buffer.take()
        if self._drain_acknowledged and not self.streams:
            self.closing = True
        return data

    @property
    def has_data_to_send(self) -> bool:
        """Another `data_to_send` would return more although nothing was received: the write burst was used up."""
        buffer = self._send_buffer
        return bool(buffer.ready_streams) and buffer.send_window > 0 and buffer.burst_left > 0

    def pause_writing(self) -> None:
        """The socket is full: DATA is held back until `resume_writing`."""
        self._send_buffer.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes output again; the owner calls `data_to_send` next."""
        self._unread_acks = 0
        self._send_buffer.resume_writing()

    def drain(self) -> None:
        """Graceful shutdown (RFC 9113, 6.8): no new streams; `closing` becomes True when all open ones have ended.

        Streams already in transit are still accepted: the final GOAWAY with the last stream id is sent when the peer
        has acknowledged a PING that follows the first GOAWAY.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        buffer = self._send_buffer
        buffer.chunks.append(frames.encode_goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR, "draining"))
        buffer.chunks.append(frames.encode_frame(frames.PING, 0, 0, DRAIN_PING))
        if not buffer.flush_scheduled:
            buffer.request_flush()

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Cancels all RPCs; the peer gets what was written so far and GOAWAY."""
        if self.closing:
            return
        chunks = [*self._send_buffer.chunks, frames.encode_goaway(self._last_stream_id, code, reason)]
        self.connection_lost()
        self._send_buffer.chunks += chunks

    def connection_lost(self) -> None:
        """Cancels all RPCs and drops all output."""
        self.closing = True
        self._send_buffer.flush_scheduled = True  # so that no handler's `send` or `finish` schedules a flush
        for stream in list(self.streams.values()):
            # A handler that is cancelled may end other RPCs of this connection.
            if not stream.closed:
                stream.cancel()
        self._send_buffer.chunks.clear()

    # HEADERS: start and end of streams

    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """Opens a stream, or ends its input with trailers."""
        # Clients open streams with odd ids in ascending order (RFC 9113, 5.1.1).
        if stream_id <= self._last_stream_id or not stream_id & 1:
            self._handle_trailers(flags, stream_id, block)
            return
        self._last_stream_id = stream_id
        headers = self._header_decoder.decode_request(block)
        if headers.malformed:
            self._send_rst_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif len(self.streams) >= self._limits.max_concurrent_streams or self._drain_acknowledged:
            # Not processed at all, so the client may retry (RFC 9113, 5.1.2 and 8.7).
            self._send_rst_stream(stream_id, ErrorCode.REFUSED_STREAM)
        elif headers.rejection:
            self._reject_request(stream_id, flags, headers.rejection)
        else:
            self._open_stream(stream_id, flags, headers)

    def _open_stream(self, stream_id: int, flags: int, headers: RpcHeaders) -> None:
        create_handler = self._methods.get(headers.path)
        if create_handler is None:
            rejection = encode_trailers_only(StatusCode.UNIMPLEMENTED, f"unknown method {headers.path}")
            self._reject_request(stream_id, flags, rejection)
            return
        stream = Stream(
            stream_id,
            headers.path,
            self._send_buffer,
            self,
            gzip=headers.gzip,
            started_at=self._clock.now(),
        )
        stream.half_closed = bool(flags & END_STREAM)
        self.streams[stream_id] = stream
        self._rpc_stats.record_start()
        try:
            handler = create_handler(stream)
        except Exception:
            self._fail_stream(stream)
            return
        if stream.status == STATUS_UNSET:
            stream.handler = handler
            if flags & END_STREAM:
                self._handle_end_of_stream(stream)

    def on_stream_closed(self, stream: Stream, status: int) -> None:
        """Forgets a stream that has ended."""
        del self.streams[stream.id]
        self._rpc_stats.record_end(stream.method, status, stream.started_at)

    def _handle_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        self._header_decoder.decode_trailers(block)
        stream = self.streams.get(stream_id)
        if not stream_id & 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that clients cannot open")
        if stream is None:
            # Trailers may have crossed our own end of the stream; anything else would use a stream id twice.
            if stream_id in self._half_closed_ids or not flags & END_STREAM:
                raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        elif stream.half_closed:
            self._reset_faulty_stream(stream, ErrorCode.STREAM_CLOSED)
        elif not flags & END_STREAM:  # RFC 9113, 8.1
            self._reset_faulty_stream(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._handle_end_of_stream(stream)

    def _reject_request(self, stream_id: int, flags: int, block: bytes) -> None:
        """Responds without a handler."""
        chunks = self._send_buffer.chunks
        chunks.append(frames.encode_frame(frames.HEADERS, frames.END_HEADERS | END_STREAM, stream_id, block))
        if not flags & END_STREAM:
            chunks.append(frames.encode_rst_stream(stream_id, ErrorCode.NO_ERROR))

    # DATA

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """Passes DATA to its stream and updates both flow-control windows (RFC 9113, 6.9.1)."""
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
            # Set before the handler gets the last message: if it ends the RPC then, the peer is not asked to stop.
            stream.half_closed = True
        elif not size:
            self._reset_allowance.charge(1)  # empty DATA frames (CVE-2019-9518)
        try:
            stream.receive_data(buffer, start, end)
        except RpcError as error:
            stream.fail(error.status, error.reason)
        except Exception:
            self._fail_stream(stream)
        if flags & END_STREAM:
            self._handle_end_of_stream(stream)
        elif stream.receive_window < self._half_stream_window and not stream.closed:
            stream.replenish_receive_window()

    def _handle_padded_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not payload or payload[0] >= len(payload):  # RFC 9113, 6.1
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding exceeds the frame")
        # Padding and its length count in both windows.
        padding = payload[0] + 1
        self._receive_window -= padding
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.receive_window -= padding
        self.on_data(payload, 1, len(payload) - payload[0], flags, stream_id)

    def _replenish_receive_window(self) -> None:
        """Grants the peer a full connection window again; streams limit it by theirs."""
        if self._receive_window < 0:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        self._send_buffer.chunks.append(frames.encode_window_update(0, MAX_WINDOW_SIZE - self._receive_window))
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
        except RpcError as error:
            stream.fail(error.status, error.reason)
        except Exception:
            self._fail_stream(stream)

    # Stream errors (RFC 9113, 5.4.2)

    def _fail_stream(self, stream: Stream) -> None:
        log.exception("handler of %s failed", stream.method)
        stream.fail(StatusCode.INTERNAL, "internal error")

    def _reset_faulty_stream(self, stream: Stream, code: ErrorCode) -> None:
        """Resets a stream on which the peer violated the protocol."""
        stream.cancel()
        self._send_rst_stream(stream.id, code)

    def _send_rst_stream(self, stream_id: int, code: ErrorCode) -> None:
        self._send_buffer.chunks.append(frames.encode_rst_stream(stream_id, code))
        self._reset_allowance.charge(1)

    def _check_stream_was_opened(self, stream_id: int) -> None:
        """A frame on an idle stream is a connection error (RFC 9113, 5.1); on a closed one it is ignored."""
        if not stream_id & 1 or stream_id > self._last_stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on a stream that was never opened")

    # Other frames

    def on_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Handles all frames but HEADERS, CONTINUATION and DATA without padding; unknown types are ignored."""
        if stream_id and frame_type not in _CONNECTION_FRAMES:
            self._handle_stream_frame(frame_type, flags, stream_id, payload)
        elif stream_id or frame_type in _STREAM_FRAMES:
            raise Http2ConnectionError(
                ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream, or the reverse"
            )
        elif frame_type == frames.WINDOW_UPDATE:
            self._handle_connection_window_update(payload)
        elif frame_type == frames.SETTINGS:
            self._handle_settings(flags, payload)
        elif frame_type == frames.PING:
            self._handle_ping(flags, payload)

    def _handle_stream_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if frame_type == frames.WINDOW_UPDATE:
            self._handle_stream_window_update(stream_id, payload)
        elif frame_type == frames.RST_STREAM:
            self._handle_rst_stream(stream_id, payload)
        elif frame_type == frames.DATA:
            self._handle_padded_data(flags, stream_id, payload)
        elif frame_type == frames.PRIORITY:
            self._handle_priority(stream_id, payload)
        elif frame_type == frames.PUSH_PROMISE:  # RFC 9113, 8.4
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _handle_stream_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = frames.parse_window_increment(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_stream_was_opened(stream_id)
            return
        stream.send_window += increment
        if not increment or stream.send_window > MAX_WINDOW_SIZE:  # RFC 9113, 6.9 and 6.9.1
            code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
            self._reset_faulty_stream(stream, code)
        else:
            stream.mark_ready()

    def _handle_connection_window_update(self, payload: bytes) -> None:
        increment = frames.parse_window_increment(payload)
        self._send_buffer.send_window += increment
        if not increment or self._send_buffer.send_window > MAX_WINDOW_SIZE:
            code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
            raise Http2ConnectionError(code, "invalid increment of the connection window")

    def _handle_rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM payload is not 4 octets")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_stream_was_opened(stream_id)
            return
        stream.cancel()
        # Rapid reset (CVE-2023-44487). A proxy may end every stream with a reset once it has what it needs, so a reset
        # after our response headers is not counted.
        if not stream.headers_sent:
            self._reset_allowance.charge(1)

    def _handle_priority(self, stream_id: int, payload: bytes) -> None:
        """Checks the frame (RFC 9113, 6.3; RFC 7540, 5.3.1) and ignores it."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if len(payload) != 5:
            self._reset_faulty_stream(stream, ErrorCode.FRAME_SIZE_ERROR)
        elif frames.parse_stream_dependency(payload) == stream_id:
            self._reset_faulty_stream(stream, ErrorCode.PROTOCOL_ERROR)

    def _handle_settings(self, flags: int, payload: bytes) -> None:
        """RFC 9113, 6.5. SETTINGS_HEADER_TABLE_SIZE is ignored: our header blocks use no dynamic table."""
        if flags & frames.ACK:
            if payload:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        if len(payload) % frames.SETTING_ENTRY.size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS payload is not a multiple of 6 octets")
        for key, value in frames.SETTING_ENTRY.iter_unpack(payload):
            if key == frames.SETTINGS_ENABLE_PUSH and value > 1:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
            if key == frames.SETTINGS_MAX_FRAME_SIZE:
                if not frames.DEFAULT_MAX_FRAME_SIZE <= value <= frames.LARGEST_MAX_FRAME_SIZE:
                    raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
                self._send_buffer.max_frame_size = value
            elif key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
                self._resize_stream_windows(value)
        self._send_ack(frames.encode_frame(frames.SETTINGS, frames.ACK, 0))

    def _resize_stream_windows(self, initial_window: int) -> None:
        """Applies a changed SETTINGS_INITIAL_WINDOW_SIZE to all streams; windows may become negative (6.9.2)."""
        if initial_window > MAX_WINDOW_SIZE:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        delta = initial_window - self._send_buffer.initial_stream_window
        self._send_buffer.initial_stream_window = initial_window
        if not delta:
            return
        # All streams are visited for a frame of 15 octets, so the cost grows with them.
        self._reset_allowance.charge(1 + len(self.streams) // 64)
        for stream in self.streams.values():
            stream.send_window += delta
            if stream.send_window > MAX_WINDOW_SIZE:
                raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")
            stream.mark_ready()

    def _handle_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING payload is not 8 octets")
        if not flags & frames.ACK:
            self._send_ack(frames.encode_frame(frames.PING, frames.ACK, 0, payload))
        elif payload == DRAIN_PING and self._draining and not self._drain_acknowledged:
            self._drain_acknowledged = True
            goaway = frames.encode_goaway(self._last_stream_id, ErrorCode.NO_ERROR, "draining")
            self._send_buffer.chunks.append(goaway)

    def _send_ack(self, frame: bytes) -> None:
        self._send_buffer.chunks.append(frame)
        if self._send_buffer.writing_paused:
            # Ping and settings floods of a peer that does not read (CVE-2019-9512, CVE-2019-9515).
            self._unread_acks += 1
            if self._unread_acks > self._limits.max_control_frames:
                raise Http2ConnectionError(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many PING and SETTINGS frames while our output is not read"
                )


class ResetAllowance:
    """A token bucket for what costs us more than the peer: resets, empty DATA frames, changes of all stream windows.

    Against rapid reset (CVE-2023-44487) and MadeYouReset (CVE-2025-8671).
    """

    __slots__ = ("_clock", "_limits", "_tokens", "_updated_at")

    def __init__(self, clock: Clock, limits: TransportLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._tokens = float(limits.reset_burst)
        self._updated_at = clock.now()

    def charge(self, cost: float) -> None:
        """Takes `cost` tokens. Raises Http2ConnectionError if that many have not been refilled yet."""
        self._tokens -= cost
        if self._tokens < 0:
            # The clock is read only here: a well-behaved peer never gets this far.
            now = self._clock.now()
            refill = (now - self._updated_at) * self._limits.resets_per_second
            self._tokens = min(self._tokens + refill, float(self._limits.reset_burst))
            self._updated_at = now
            if self._tokens < 0:
                raise Http2ConnectionError(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many resets, empty frames or window changes"
                )
