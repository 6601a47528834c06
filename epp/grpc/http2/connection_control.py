"""What concerns an HTTP/2 connection as a whole: settings, its window, pings, draining, and patience with the peer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from epp.clock import Clock
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frame_reader import FrameReader
from epp.grpc.http2.frames import MAX_WINDOW_SIZE, ErrorCode, Http2ConnectionError
from epp.grpc.http2.send_buffer import SendBuffer
from epp.grpc.http2.stream import Stream
from epp.grpc.limits import TransportLimits

DRAIN_PING = b"epp-bye\0"


class Control(FrameReader):
    """The connection's own frames; those of streams go to the subclass."""

    def __init__(self, clock: Clock, limits: TransportLimits, wake: Callable[[], None]) -> None:
        super().__init__(limits)
        self.streams: dict[int, Stream] = {}
        self.closing = False
        """Nothing more will be read, or written after the next `take`."""
        self._clock = clock
        self._wake = wake
        self._send_buffer = SendBuffer(limits, self._schedule_flush, self.on_stream_end)
        self._last_stream_id = 0
        self._receive_window = MAX_WINDOW_SIZE
        self._writing_paused = False
        self._unread_acks = 0
        self._reset_allowance = float(limits.reset_burst)
        self._allowance_updated_at = clock.now()
        self._draining = self._drain_acknowledged = False
        self._send_server_preface()

    @abstractmethod
    def on_stream_end(self, stream: Stream, status: int) -> None:
        """A stream is over."""

    @abstractmethod
    def on_stream_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """WINDOW_UPDATE, RST_STREAM, PRIORITY or padded DATA on a stream other than 0."""

    def _send_server_preface(self) -> None:
        values = {
            h2.SETTINGS_MAX_CONCURRENT_STREAMS: self._limits.max_concurrent_streams,
            h2.SETTINGS_INITIAL_WINDOW_SIZE: self._limits.stream_window,
            h2.SETTINGS_MAX_FRAME_SIZE: self._limits.max_frame_size,
            h2.SETTINGS_MAX_HEADER_LIST_SIZE: self._limits.max_header_list_size,
        }
        self._send_buffer.chunks += (
            h2.encode_settings(values),
            h2.encode_window_update(0, MAX_WINDOW_SIZE - h2.DEFAULT_WINDOW_SIZE),
        )

    def drain(self) -> None:
        """Asks the peer to open no more streams here (RFC 9113, 6.8); open ones go on, then `closing`.

        Streams already on their way are still accepted: the last stream id is named when the peer has answered a PING.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        self._send_buffer.chunks.append(h2.encode_goaway(h2.MAX_STREAM_ID, ErrorCode.NO_ERROR, "draining"))
        self._send_buffer.chunks.append(h2.encode_frame(h2.PING, 0, 0, DRAIN_PING))
        if not self._send_buffer.flush_scheduled:
            self._send_buffer.schedule_flush()

    def pause_writing(self) -> None:
        """The socket takes no more: DATA waits until `resume`."""
        self._writing_paused = True
        self._send_buffer.burst_left = 0

    def resume_writing(self) -> None:
        """The socket takes more again; `take` follows."""
        self._writing_paused = False
        self._unread_acks = 0
        self._send_buffer.burst_left = self._limits.write_burst

    def _schedule_flush(self) -> None:
        self._send_buffer.flush_scheduled = True
        self._wake()

    def _charge_reset_allowance(self, cost: float) -> None:
        """Counts what costs us more than the peer; the allowance refills with time."""
        self._reset_allowance -= cost
        if self._reset_allowance < 0:
            now = self._clock.now()
            refill = (now - self._allowance_updated_at) * self._limits.resets_per_second
            self._reset_allowance = min(self._reset_allowance + refill, float(self._limits.reset_burst))
            self._allowance_updated_at = now
            if self._reset_allowance < 0:
                raise Http2ConnectionError(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many resets, empty frames or window changes"
                )

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Every frame but DATA without padding and header blocks."""
        if stream_id and kind not in _CONNECTION_ONLY:
            self.on_stream_frame(kind, flags, stream_id, payload)
        elif stream_id or kind in _STREAM_ONLY:
            raise Http2ConnectionError(
                ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream, or the reverse"
            )
        elif kind == h2.WINDOW_UPDATE:
            self._handle_connection_window_update(payload)
        elif kind == h2.SETTINGS:
            self._handle_settings(flags, payload)
        elif kind == h2.PING:
            self._handle_ping(flags, payload)

    def _handle_settings(self, flags: int, payload: bytes) -> None:
        if flags & h2.ACK:
            if payload:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        if len(payload) % 6:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are 6 octets each")
        for key, value in h2.SETTING_STRUCT.iter_unpack(payload):
            if key == h2.SETTINGS_ENABLE_PUSH and value > 1:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
            if key == h2.SETTINGS_MAX_FRAME_SIZE:
                if not h2.DEFAULT_MAX_FRAME_SIZE <= value <= h2.LARGEST_MAX_FRAME_SIZE:
                    raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
                self._send_buffer.max_frame_size = value
            elif key == h2.SETTINGS_INITIAL_WINDOW_SIZE:
                self._resize_stream_windows(value)
        self._send_ack(h2.encode_frame(h2.SETTINGS, h2.ACK, 0))

    def _resize_stream_windows(self, value: int) -> None:
        if value > MAX_WINDOW_SIZE:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        delta = value - self._send_buffer.initial_stream_window
        self._send_buffer.initial_stream_window = value
        if not delta:
            return
        self._charge_reset_allowance(1 + len(self.streams) // 64)
        for stream in self.streams.values():
            stream.send_window += delta
            if stream.send_window > MAX_WINDOW_SIZE:
                raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")
            stream.mark_ready()

    def _handle_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING is 8 octets")
        if not flags & h2.ACK:
            self._send_ack(h2.encode_frame(h2.PING, h2.ACK, 0, payload))
        elif payload == DRAIN_PING and self._draining and not self._drain_acknowledged:
            self._drain_acknowledged = True
            self._send_buffer.chunks.append(h2.encode_goaway(self._last_stream_id, ErrorCode.NO_ERROR, "draining"))

    def _send_ack(self, frame: bytes) -> None:
        self._send_buffer.chunks.append(frame)
        if self._writing_paused:
            self._unread_acks += 1
            if self._unread_acks > self._limits.max_control_frames:
                raise Http2ConnectionError(
                    ErrorCode.ENHANCE_YOUR_CALM, "too many frames to answer while nothing is read"
                )

    def _handle_connection_window_update(self, payload: bytes) -> None:
        increment = parse_window_increment(payload)
        self._send_buffer.send_window += increment
        if not increment or self._send_buffer.send_window > MAX_WINDOW_SIZE:
            code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
            raise Http2ConnectionError(code, "connection window increment")


_CONNECTION_ONLY = frozenset((h2.SETTINGS, h2.PING, h2.GOAWAY))
_STREAM_ONLY = frozenset((h2.DATA, h2.RST_STREAM, h2.PRIORITY, h2.PUSH_PROMISE))


def parse_window_increment(payload: bytes) -> int:
    """What a WINDOW_UPDATE grants; 0 is for the caller to refuse."""
    if len(payload) != 4:
        raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 octets")
    return int.from_bytes(payload, "big") & MAX_WINDOW_SIZE
