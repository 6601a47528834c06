"""The way out of a connection that its streams share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from epp.grpc.http2.frames import DEFAULT_FRAME, DEFAULT_WINDOW, Code, reset
from epp.grpc.limits import Limits

if TYPE_CHECKING:
    from epp.grpc.http2.stream import Stream


class Outbox:
    """What all streams of a connection share on their way out: the frames gathered, window, burst, and who waits."""

    __slots__ = (
        "backlog",
        "budget",
        "doomed",
        "ended",
        "frame",
        "held",
        "initial",
        "limits",
        "pieces",
        "ready",
        "wake",
        "window",
    )

    def __init__(self, limits: Limits, wake: Callable[[], None], ended: Callable[[Stream, int], None]) -> None:
        self.limits = limits
        self.pieces: list[bytes | memoryview] = []
        self.window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self.frame = DEFAULT_FRAME
        self.budget = limits.burst
        self.backlog = 0
        self.ready: deque[Stream] = deque()
        self.doomed: list[Stream] = []
        # True while somebody is going to take the frames anyway.
        self.held = False
        self.wake = wake
        self.ended = ended

    def pump(self) -> None:
        """Lets waiting streams send, in turns, as far as window and burst reach."""
        for stream in self.doomed:
            if stream.queued:
                self.pieces.append(reset(stream.id, Code.ENHANCE_YOUR_CALM))
                stream.lost()
        self.doomed.clear()
        ready = self.ready
        while ready and self.budget > 0 and (self.window > 0 or not ready[0].queue):
            stream = ready.popleft()
            stream.ready = False
            stream.emit()
