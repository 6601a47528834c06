"""What concerns an HTTP/2 connection as a whole: settings, its window, pings, draining, and patience with the peer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from epp.clock import Clock
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frame_reader import FrameReader
from epp.grpc.http2.frames import MAX_WINDOW, Code, ConnectionFault
from epp.grpc.http2.send_buffer import Outbox
from epp.grpc.http2.stream import Stream
from epp.grpc.limits import Limits

DRAIN_PING = b"epp-bye\0"


class Control(FrameReader):
    """The connection's own frames; those of streams go to the subclass."""

    def __init__(self, clock: Clock, limits: Limits, wake: Callable[[], None]) -> None:
        super().__init__(limits)
        self.streams: dict[int, Stream] = {}
        self.closing = False
        """Nothing more will be read, or written after the next `take`."""
        self._clock = clock
        self._wake = wake
        self._out = Outbox(limits, self._woken, self.on_ended)
        self._last_id = 0
        self._credit = MAX_WINDOW
        self._paused = False
        self._answers = 0
        self._allowance = float(limits.resets)
        self._allowance_at = clock.now()
        self._draining = self._drained = False
        self._greet()

    @abstractmethod
    def on_ended(self, stream: Stream, status: int) -> None:
        """A stream is over."""

    @abstractmethod
    def on_stream_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """WINDOW_UPDATE, RST_STREAM, PRIORITY or padded DATA on a stream other than 0."""

    def _greet(self) -> None:
        values = {
            h2.SETTING_MAX_STREAMS: self._limits.streams,
            h2.SETTING_WINDOW: self._limits.window,
            h2.SETTING_FRAME: self._limits.frame,
            h2.SETTING_HEADER_LIST: self._limits.header_list,
        }
        self._out.pieces += (h2.settings(values), h2.window_update(0, MAX_WINDOW - h2.DEFAULT_WINDOW))

    def drain(self) -> None:
        """Asks the peer to open no more streams here (RFC 9113, 6.8); open ones go on, then `closing`.

        Streams already on their way are still accepted: the last stream id is named when the peer has answered a PING.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        self._out.pieces.append(h2.goaway(h2.LAST_STREAM_ID, Code.NO_ERROR, "draining"))
        self._out.pieces.append(h2.frame(h2.PING, 0, 0, DRAIN_PING))
        if not self._out.held:
            self._out.wake()

    def pause(self) -> None:
        """The socket takes no more: DATA waits until `resume`."""
        self._paused = True
        self._out.budget = 0

    def resume(self) -> None:
        """The socket takes more again; `take` follows."""
        self._paused = False
        self._answers = 0
        self._out.budget = self._limits.burst

    def _woken(self) -> None:
        self._out.held = True
        self._wake()

    def _charge(self, cost: float) -> None:
        """Counts what costs us more than the peer; the allowance refills with time."""
        self._allowance -= cost
        if self._allowance < 0:
            now = self._clock.now()
            refill = (now - self._allowance_at) * self._limits.resets_per_second
            self._allowance = min(self._allowance + refill, float(self._limits.resets))
            self._allowance_at = now
            if self._allowance < 0:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many resets, empty frames or window changes")

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Every frame but DATA without padding and header blocks."""
        if stream_id and kind not in _CONNECTION_ONLY:
            self.on_stream_frame(kind, flags, stream_id, payload)
        elif stream_id or kind in _STREAM_ONLY:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection on a stream, or the reverse")
        elif kind == h2.WINDOW_UPDATE:
            self._on_window_update(payload)
        elif kind == h2.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == h2.PING:
            self._on_ping(flags, payload)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & h2.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        if len(payload) % 6:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS are 6 octets each")
        for key, value in h2.SETTING.iter_unpack(payload):
            if key == h2.SETTING_ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
            if key == h2.SETTING_FRAME:
                if not h2.DEFAULT_FRAME <= value <= h2.LARGEST_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
                self._out.frame = value
            elif key == h2.SETTING_WINDOW:
                self._resize_windows(value)
        self._answer(h2.frame(h2.SETTINGS, h2.ACK, 0))

    def _resize_windows(self, value: int) -> None:
        if value > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        delta = value - self._out.initial
        self._out.initial = value
        if not delta:
            return
        self._charge(1 + len(self.streams) // 64)
        for stream in self.streams.values():
            stream.window += delta
            if stream.window > MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "stream window overflows")
            stream.kick()

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is 8 octets")
        if not flags & h2.ACK:
            self._answer(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif payload == DRAIN_PING and self._draining and not self._drained:
            self._drained = True
            self._out.pieces.append(h2.goaway(self._last_id, Code.NO_ERROR, "draining"))

    def _answer(self, frame: bytes) -> None:
        self._out.pieces.append(frame)
        if self._paused:
            self._answers += 1
            if self._answers > self._limits.control_frames:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames to answer while nothing is read")

    def _on_window_update(self, payload: bytes) -> None:
        increment = window_increment(payload)
        self._out.window += increment
        if not increment or self._out.window > MAX_WINDOW:
            code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
            raise ConnectionFault(code, "connection window increment")


_CONNECTION_ONLY = frozenset((h2.SETTINGS, h2.PING, h2.GOAWAY))
_STREAM_ONLY = frozenset((h2.DATA, h2.RST_STREAM, h2.PRIORITY, h2.PUSH_PROMISE))


def window_increment(payload: bytes) -> int:
    """What a WINDOW_UPDATE grants; 0 is for the caller to refuse."""
    if len(payload) != 4:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 octets")
    return int.from_bytes(payload, "big") & MAX_WINDOW
