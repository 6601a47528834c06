"""Output shared by the streams of one HTTP/2 connection: frames to write, send window, and streams waiting for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from epp.grpc.http2.frames import DEFAULT_MAX_FRAME_SIZE, DEFAULT_WINDOW_SIZE
from epp.grpc.limits import TransportLimits


class QueuedStream(Protocol):
    """A stream with output that flow control holds back."""

    is_ready: bool
    """It is in `SendBuffer.ready_streams`."""
    pending_bytes: int

    def write_pending(self) -> None:
        """Moves pending output to the buffer as far as the windows allow; gets in line again for the rest."""

    def abort_overflow(self) -> None:
        """Resets the stream, if it still has pending output: the connection holds too much of it."""


class SendBuffer:
    """Output of one connection. Streams append frames to `chunks` and spend `send_window` and `burst_left` themselves.

    Streams whose output exceeds a window keep it, and take turns through `ready_streams` (round robin) once their own
    window allows. `buffered_bytes` counts what all streams keep: pending output and incomplete requests.
    """

    __slots__ = (
        "_schedule_flush",
        "buffered_bytes",
        "burst_left",
        "chunks",
        "flush_scheduled",
        "initial_stream_window",
        "limits",
        "max_frame_size",
        "overflowed",
        "ready_streams",
        "send_window",
        "writing_paused",
    )

    def __init__(self, limits: TransportLimits, schedule_flush: Callable[[], None]) -> None:
        self.limits = limits
        self.chunks: list[bytes | memoryview] = []
        """Encoded frames, in order, to be written as they are."""
        self.send_window = DEFAULT_WINDOW_SIZE
        """The connection's flow-control window for DATA, as granted by the peer (RFC 9113, 5.2)."""
        self.initial_stream_window = DEFAULT_WINDOW_SIZE
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.max_frame_size = DEFAULT_MAX_FRAME_SIZE
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self.burst_left = limits.write_burst
        """DATA that may still be added before the next `take`; 0 while the socket is full."""
        self.writing_paused = False
        """The socket is full: DATA is held back, other frames are not."""
        self.buffered_bytes = 0
        self.ready_streams: deque[QueuedStream] = deque()
        self.overflowed: list[QueuedStream] = []
        """Streams to be aborted in the next `take`: their handlers must not be cancelled while they call `send`."""
        self.flush_scheduled = False
        """The owner will call `take` anyway: it has been asked to, or it is handling input."""
        self._schedule_flush = schedule_flush

    def request_flush(self) -> None:
        """Asks the owner to call `take`; callers check `flush_scheduled` first."""
        self.flush_scheduled = True
        self._schedule_flush()

    def take(self) -> bytes:
        """All octets to write now. Cancels the RPCs of overflowed streams."""
        if self.ready_streams or self.overflowed:
            self.flush_scheduled = True
            if self.overflowed:
                self._abort_overflowed_streams()
            self._write_ready_streams()
        data = b"".join(self.chunks)
        self.chunks.clear()
        self.burst_left = 0 if self.writing_paused else self.limits.write_burst
        self.flush_scheduled = False
        return data

    def pause_writing(self) -> None:
        """Holds DATA back until `resume_writing`."""
        self.writing_paused = True
        self.burst_left = 0

    def resume_writing(self) -> None:
        """Lets the next `take` include DATA again."""
        self.writing_paused = False
        self.burst_left = self.limits.write_burst

    def _abort_overflowed_streams(self) -> None:
        for stream in self.overflowed:
            stream.abort_overflow()
        self.overflowed.clear()

    def _write_ready_streams(self) -> None:
        ready = self.ready_streams
        # A stream that ended while it was in line needs no window to leave it.
        while ready and self.burst_left > 0 and (self.send_window > 0 or not ready[0].pending_bytes):
            stream = ready.popleft()
            stream.is_ready = False
            stream.write_pending()
