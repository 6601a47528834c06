"""A sans-IO HTTP/2 server connection for gRPC (RFC 9113): bytes in, handlers called, bytes out.

Only what gRPC needs exists: requests are POSTs whose DATA are length-prefixed messages, answers are headers, messages
and trailers. No push, no priorities. Memory is bounded by `Limits`; time is read only to refill the reset allowance.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from epp.clock import Clock
from epp.grpc.framing import CallFault, Status, refusal
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.connection_control import Control, window_increment
from epp.grpc.http2.frames import END_STREAM, MAX_WINDOW, Code, ConnectionFault
from epp.grpc.http2.headers import Head, HeaderReader
from epp.grpc.http2.stream import OPEN, Stream
from epp.grpc.limits import Limits
from epp.grpc.rpc import Methods
from epp.grpc.rpc_stats import Streams

log = logging.getLogger("epp.grpc.http2.connection")

HALF_OF_ALL = MAX_WINDOW // 2
# Streams that the peer itself ended: DATA on them is a fault, on other closed streams it may have been on its way.
REMEMBERED = 128


class Connection(Control):
    """One client connection. `receive` what was read, then write what `take` gives."""

    def __init__(
        self, methods: Methods, clock: Clock, limits: Limits, observer: Streams, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when output appears outside `receive`, once until the next `take`."""
        super().__init__(clock, limits, wake)
        self._methods = methods
        self._observer = observer
        self._headers = HeaderReader(limits.header_list)
        self._peer_ended: deque[int] = deque(maxlen=REMEMBERED)
        self._half_window = limits.window // 2

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
        if out.ready or out.doomed:
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
            # What one handler does on a loss may end another's stream.
            if not stream.gone:
                stream.lost()
        self._out.pieces.clear()

    def on_ended(self, stream: Stream, status: int) -> None:
        """A stream is over."""
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
        stream.half_closed = bool(flags & END_STREAM)
        self.streams[stream_id] = stream
        self._observer.opened()
        try:
            handler = method(stream)
        except Exception:
            self._broken(stream)
            return
        if stream.status == OPEN:
            stream.handler = handler
            if flags & END_STREAM:
                self._end_of_input(stream)

    def _late_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        self._headers.skip(block)
        stream = self.streams.get(stream_id)
        if stream_id & 1 == 0 or stream_id == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that clients cannot open")
        if stream is None:
            # Trailers may have crossed our own end of the stream; anything else would be a stream id used twice.
            if stream_id in self._peer_ended or not flags & END_STREAM:
                raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a closed stream")
        elif stream.half_closed:
            self._fault(stream, Code.STREAM_CLOSED)
        elif not flags & END_STREAM:
            self._fault(stream, Code.PROTOCOL_ERROR)
        else:
            self._end_of_input(stream)

    def _refuse(self, stream_id: int, flags: int, block: bytes) -> None:
        """Answers without a handler."""
        self._out.pieces.append(h2.frame(h2.HEADERS, h2.END_HEADERS | END_STREAM, stream_id, block))
        if not flags & END_STREAM:
            self._out.pieces.append(h2.reset(stream_id, Code.NO_ERROR))

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """Feeds a stream and accounts for both windows."""
        size = end - start
        self._credit -= size
        if self._credit < HALF_OF_ALL:
            self._replenish()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._data_of_nobody(stream_id)
            return
        stream.credit -= size
        if stream.credit < 0:
            self._fault(stream, Code.FLOW_CONTROL_ERROR)
            return
        if stream.half_closed:
            self._fault(stream, Code.STREAM_CLOSED)
            return
        if flags & END_STREAM:
            # Before the handler hears the last message, lest it ends the RPC and we tell the peer to stop sending.
            stream.half_closed = True
        elif not size:
            self._charge(1)
        try:
            stream.feed(buffer, start, end)
        except CallFault as fault:
            stream.fail(fault.status, fault.reason)
        except Exception:
            self._broken(stream)
        if flags & END_STREAM:
            self._end_of_input(stream)
        elif stream.credit < self._half_window and not stream.gone:
            stream.replenish()

    def _replenish(self) -> None:
        """Grants the peer a whole window of the connection again."""
        if self._credit < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "connection window exceeded")
        self._out.pieces.append(h2.window_update(0, MAX_WINDOW - self._credit))
        self._credit = MAX_WINDOW

    def _data_of_nobody(self, stream_id: int) -> None:
        self._stray(stream_id)
        if stream_id in self._peer_ended:
            raise ConnectionFault(Code.STREAM_CLOSED, "DATA after the end of the stream")

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

    # Other frames of streams

    def on_stream_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """WINDOW_UPDATE, RST_STREAM, PRIORITY, padded DATA; unknown kinds are ignored."""
        if kind == h2.WINDOW_UPDATE:
            self._on_window(stream_id, payload)
        elif kind == h2.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == h2.DATA:
            self._on_padded_data(flags, stream_id, payload)
        elif kind == h2.PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == h2.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "clients do not push")

    def _on_window(self, stream_id: int, payload: bytes) -> None:
        increment = window_increment(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        stream.window += increment
        if not increment or stream.window > MAX_WINDOW:
            self._fault(stream, Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR)
        else:
            stream.kick()

    def _on_padded_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not payload or payload[0] >= len(payload):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "padding exceeds the frame")
        padding = payload[0] + 1
        self._credit -= padding
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.credit -= padding
        self.on_data(payload, 1, len(payload) - payload[0], flags, stream_id)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM is 4 octets")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._stray(stream_id)
            return
        stream.lost()
        # Envoy ends every ext_proc stream with a reset: only one that comes before any answer is suspicious.
        if not stream.opened:
            self._charge(1)

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        stream = self.streams.get(stream_id)
        depends_on = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        if stream is not None and (len(payload) != 5 or depends_on == stream_id):
            self._fault(stream, Code.FRAME_SIZE_ERROR if len(payload) != 5 else Code.PROTOCOL_ERROR)
