"""The way out of a connection that its streams share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from epp.grpc.http2.frames import DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW_SIZE, ErrorCode, encode_rst_stream
from epp.grpc.limits import TransportLimits

if TYPE_CHECKING:
    from epp.grpc.http2.stream import Stream


class SendBuffer:
    """What all streams of a connection share on their way out: the frames gathered, window, burst, and who waits."""

    __slots__ = (
        "buffered_bytes",
        "burst_left",
        "chunks",
        "flush_scheduled",
        "initial_stream_window",
        "limits",
        "max_frame_size",
        "on_stream_end",
        "overflowed",
        "ready_streams",
        "schedule_flush",
        "send_window",
    )

    def __init__(self, limits: TransportLimits, wake: Callable[[], None], ended: Callable[[Stream, int], None]) -> None:
        self.limits = limits
        self.chunks: list[bytes | memoryview] = []
        self.send_window = DEFAULT_WINDOW_SIZE
        self.initial_stream_window = DEFAULT_WINDOW_SIZE
        self.max_frame_size = DEFAULT_MAX_FRAME_SIZE
        self.burst_left = limits.write_burst
        self.buffered_bytes = 0
        self.ready_streams: deque[Stream] = deque()
        self.overflowed: list[Stream] = []
        # True while somebody is going to take the frames anyway.
        self.flush_scheduled = False
        self.schedule_flush = wake
        self.on_stream_end = ended

    def write_ready_streams(self) -> None:
        """Lets waiting streams send, in turns, as far as window and burst reach."""
        for stream in self.overflowed:
            if stream.pending_bytes:
                self.chunks.append(encode_rst_stream(stream.id, ErrorCode.ENHANCE_YOUR_CALM))
                stream.cancel()
        self.overflowed.clear()
        ready = self.ready_streams
        while ready and self.burst_left > 0 and (self.send_window > 0 or not ready[0].pending):
            stream = ready.popleft()
            stream.is_ready = False
            stream.write_pending()
