"""A sans-IO HTTP/2 server connection for gRPC (RFC 9113): bytes in, handlers called, bytes out.

Only what gRPC needs exists: requests are POSTs whose DATA are length-prefixed messages, answers are headers, messages
and trailers. No push, no priorities. Memory is bounded by `Limits`; time is read only to refill the reset allowance.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from epp.clock import Clock
from epp.extproc import h2frames as h2
from epp.extproc.h2frames import MAX_WINDOW, Code, ConnectionFault
from epp.extproc.h2grpc import CallFault, Status, refusal
from epp.extproc.h2headers import Head, HeaderReader
from epp.extproc.h2reader import FrameReader
from epp.extproc.h2stream import OPEN, Outbox, Stream
from epp.extproc.limits import Limits
from epp.extproc.rpc import Methods

log = logging.getLogger("epp.extproc.http2")

# Streams that the peer itself ended: DATA on them is a fault, on other closed streams it may have been on its way.
REMEMBERED = 128
DRAIN_PING = b"epp-bye\0"


class Observer:
    """Told of streams coming and going; this one does not care."""

    def opened(self) -> None:
        """A stream began."""

    def ended(self, name: str, status: int, started: float) -> None:
        """A stream of method `name` that began at clock reading `started` ended with grpc-status `status`."""


class Connection(FrameReader):
    """One client connection. `receive` what was read, then write what `take` gives."""

    def __init__(
        self, methods: Methods, clock: Clock, limits: Limits, observer: Observer, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when output appears outside `receive`, once until the next `take`."""
        super().__init__(limits)
        self.streams: dict[int, Stream] = {}
        self.closing = False
        """Nothing more will be read or written after the next `take`."""
        self._methods = methods
        self._clock = clock
        self._observer = observer
        self._wake = wake
        self._headers = HeaderReader(limits.header_list)
        self._out = Outbox(limits, self._woken, self._ended)
        self._paused = False
        self._last_id = 0
        self._peer_ended: deque[int] = deque(maxlen=REMEMBERED)
        self._credit = MAX_WINDOW
        self._allowance = float(limits.resets)
        self._allowance_at = clock.now()
        self._control = 0
        self._draining = self._drained = False
        self._greet()

    def _greet(self) -> None:
        values = {
            h2.SETTING_MAX_STREAMS: self._limits.streams,
            h2.SETTING_WINDOW: self._limits.window,
            h2.SETTING_FRAME: self._limits.frame,
            h2.SETTING_HEADER_LIST: self._limits.header_list,
        }
        self._out.pieces += (h2.settings(values), h2.window_update(0, MAX_WINDOW - h2.DEFAULT_WINDOW))

    # For the pump

    def receive(self, data: bytes) -> None:
        """Takes what was read and calls the handlers. Raises nothing: a broken peer gets GOAWAY and `closing`."""
        if self.closing:
            return
        self._out.held = True
        try:
            self.consume(data)
        except ConnectionFault as fault:
            log.warning("connection ended: %s, %s", fault.code.name, fault.reason)
            self.close(fault.code, fault.reason)

    def take(self) -> bytes:
        """What is to be written now; more may follow at once if `more`."""
        out = self._out
        out.held = True
        out.pump()
        data = b"".join(out.pieces)
        out.pieces.clear()
        out.budget = 0 if self._paused else self._limits.burst
        out.held = False
        if self._drained and not self.streams:
            self.closing = True
        return data

    @property
    def more(self) -> bool:
        """Another `take` would give more without anything being received first."""
        out = self._out
        return bool(out.ready) and out.window > 0 and out.budget > 0

    @property
    def congested(self) -> bool:
        """More output waits than one stream may have waiting."""
        return self._out.backlog > self._limits.stream_backlog

    def pause(self) -> None:
        """The socket takes no more: DATA waits until `resume`."""
        self._paused = True
        self._out.budget = 0

    def resume(self) -> None:
        """The socket takes more again; `take` follows."""
        self._paused = False
        self._control = 0
        self._out.budget = self._limits.burst

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

    def close(self, code: Code = Code.NO_ERROR, reason: str = "") -> None:
        """Ends everything: handlers hear `lost`, the peer GOAWAY."""
        if self.closing:
            return
        farewell = h2.goaway(self._last_id, code, reason)
        written = [*self._out.pieces, farewell]
        self.lost()
        self._out.pieces += written

    def lost(self) -> None:
        """The connection is gone: handlers hear it, nothing is written any more."""
        self.closing = True
        self._out.held = True
        for stream in list(self.streams.values()):
            stream.lost()
        self._out.pieces.clear()

    def _woken(self) -> None:
        self._out.held = True
        self._wake()

    def _ended(self, stream: Stream, status: int) -> None:
        del self.streams[stream.id]
        self._observer.ended(stream.name, status, stream.started)

    # Streams

    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """Opens a stream, or ends its input with trailers."""
        if stream_id <= self._last_id or not stream_id & 1:
            self._late_headers(flags, stream_id, block)
            return
        self._last_id = stream_id
        head = self._headers.head(block)
        if head.malformed:
            self._reset(stream_id, Code.PROTOCOL_ERROR)
        elif len(self.streams) >= self._limits.streams or self._drained:
            self._reset(stream_id, Code.REFUSED_STREAM)
        elif head.refused:
            self._refuse(stream_id, flags, head.refused)
        else:
            self._open(stream_id, flags, head)

    def _open(self, stream_id: int, flags: int, head: Head) -> None:
        method = self._methods.get(head.path)
        if method is None:
            self._refuse(stream_id, flags, refusal(Status.UNIMPLEMENTED, f"unknown method {head.path}"))
            return
        stream = Stream(stream_id, head.path, self._out, gzip=head.gzip, started=self._clock.now())
        self.streams[stream_id] = stream
        self._observer.opened()
        try:
            handler = method(stream)
        except Exception:
            self._broken(stream)
            return
        if stream.status == OPEN:
            stream.handler = handler
            if flags & h2.END_STREAM:
                self._end_of_input(stream)

    def _late_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        self._headers.skip(block)
        stream = self.streams.get(stream_id)
        if stream_id & 1 == 0 or stream_id == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that clients cannot open")
        if stream is None:
            # Trailers may have crossed our own end of the stream; anything else would be a stream id used twice.
            if stream_id in self._peer_ended or not flags & h2.END_STREAM:
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a closed stream")
        elif stream.half_closed:
            self._fault(stream, Code.STREAM_CLOSED)
        elif not flags & h2.END_STREAM:
            self._fault(stream, Code.PROTOCOL_ERROR)
        else:
            self._end_of_input(stream)

    def _refuse(self, stream_id: int, flags: int, block: bytes) -> None:
        """Answers without a handler."""
        self._out.pieces.append(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream_id, block))
        if not flags & h2.END_STREAM:
            self._out.pieces.append(h2.reset(stream_id, Code.NO_ERROR))

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """Feeds a stream and accounts for both windows."""
        size = end - start
        self._credit -= size
        if self._credit < MAX_WINDOW // 2:
            if self._credit < 0:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "connection window exceeded")
            self._out.pieces.append(h2.window_update(0, MAX_WINDOW - self._credit))
            self._credit = MAX_WINDOW
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        stream.credit -= size
        if stream.credit < 0:
            self._fault(stream, Code.FLOW_CONTROL_ERROR)
        elif stream.half_closed:
            self._fault(stream, Code.STREAM_CLOSED)
        else:
            if not size and not flags & h2.END_STREAM:
                self._charge(1)
            self._feed(stream, buffer, start, end, flags)

    def _feed(self, stream: Stream, buffer: bytes, start: int, end: int, flags: int) -> None:
        try:
            stream.feed(buffer, start, end)
        except CallFault as fault:
            stream.fail(fault.status, fault.reason)
        except Exception:
            self._broken(stream)
        if flags & h2.END_STREAM:
            self._end_of_input(stream)
        elif stream.credit < self._limits.window // 2 and not stream.gone:
            stream.replenish()

    def _end_of_input(self, stream: Stream) -> None:
        self._peer_ended.append(stream.id)
        if stream.gone:
            return
        try:
            stream.end_of_input()
        except CallFault as fault:
            stream.fail(fault.status, fault.reason)
        except Exception:
            self._broken(stream)

    def _broken(self, stream: Stream) -> None:
        log.exception("handler of %s failed", stream.name)
        stream.fail(Status.INTERNAL, "internal error")

    def _fault(self, stream: Stream, code: Code) -> None:
        """Resets a stream on which the peer broke the protocol."""
        stream.lost()
        self._reset(stream.id, code)

    def _reset(self, stream_id: int, code: Code) -> None:
        self._out.pieces.append(h2.reset(stream_id, code))
        self._charge(1)

    def _stray(self, stream_id: int) -> None:
        """DATA or a window for a stream that is not open."""
        if not stream_id & 1 or stream_id > self._last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "frame on a stream that was never opened")

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

    # Other frames

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Every frame but DATA without padding and header blocks."""
        if kind == h2.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == h2.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == h2.DATA:
            self._on_padded_data(flags, stream_id, payload)
        elif kind == h2.PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == h2.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "clients do not push")
        elif kind in (h2.SETTINGS, h2.PING, h2.GOAWAY):
            if stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "connection frame on a stream")
            if kind == h2.SETTINGS:
                self._on_settings(flags, payload)
            elif kind == h2.PING:
                self._on_ping(flags, payload)

    def _on_padded_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not payload or payload[0] >= len(payload):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "padding exceeds the frame")
        padding = payload[0] + 1
        self._credit -= padding
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.credit -= padding
        self.on_data(payload, 1, len(payload) - payload[0], flags, stream_id)

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY without a stream")
        stream = self.streams.get(stream_id)
        depends_on = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        if stream is not None and (len(payload) != 5 or depends_on == stream_id):
            self._fault(stream, Code.FRAME_SIZE_ERROR if len(payload) != 5 else Code.PROTOCOL_ERROR)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM is 4 octets")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        stream.lost()
        self._charge(1)

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
            self._control += 1
            if self._control > self._limits.control_frames:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames to answer while nothing is read")

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 octets")
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if not stream_id:
            self._out.window += increment
            if not increment or self._out.window > MAX_WINDOW:
                code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
                raise ConnectionFault(code, "connection window increment")
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        stream.window += increment
        if not increment or stream.window > MAX_WINDOW:
            self._fault(stream, Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR)
        else:
            stream.kick()
