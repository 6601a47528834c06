"""Bytes to frames: the client's preface, frame borders, header blocks put together from their fragments."""

from __future__ import annotations

from abc import abstractmethod

from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frames import FRAME, HEAD_SIZE, LAST_STREAM_ID, PADDED, PREFACE, Code, ConnectionFault
from epp.grpc.http2.headers import HARD_FACTOR
from epp.grpc.limits import Limits

_NOT_ALL_BLOCK = h2.PADDED | h2.HAS_PRIORITY


class FrameReader:
    """Splits what a client sends, wherever the reads cut it; the subclass acts on frames.

    DATA is handed on as it comes, without waiting for the rest of its frame; all other frames come whole.
    """

    def __init__(self, limits: Limits) -> None:
        self.ready = False
        """The client has shown its preface and first SETTINGS."""
        self._limits = limits
        self._rest = b""
        self._data: tuple[int, int, int] | None = None  # stream id, flags, octets to come of a DATA frame
        self._block: tuple[int, int, list[bytes]] | None = None  # stream id, flags, fragments of a header block

    @abstractmethod
    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """A part of a DATA frame; flags come with its last part."""

    @abstractmethod
    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block."""

    @abstractmethod
    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other frame."""

    def consume(self, data: bytes) -> None:
        """Takes what was read. Raises ConnectionFault."""
        buffer = self._rest + data if self._rest else data
        pos, end = 0, len(buffer)
        if not self.ready:
            pos = self._greeting(buffer)
            if not self.ready:
                self._rest = buffer
                return
        if self._data is not None:
            pos = self._rest_of_data(buffer, pos)
        unpack, on_data, longest = FRAME.unpack_from, self.on_data, self._limits.frame << 8 | 0xFF
        while (start := pos + HEAD_SIZE) <= end:
            word, flags, stream_id = unpack(buffer, pos)
            if word > longest:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
            stop = start + (word >> 8)
            stream_id &= LAST_STREAM_ID
            if not word & 0xFF and not flags & PADDED and self._block is None:  # DATA
                if stop > end:
                    pos = self._part_of_data(buffer, start, flags, stream_id, stop - end)
                    break
                on_data(buffer, start, stop, flags, stream_id)
            elif stop > end:
                break
            else:
                self._whole(word & 0xFF, flags, stream_id, buffer[start:stop])
            pos = stop
        self._rest = buffer[pos:]

    def _greeting(self, buffer: bytes) -> int:
        """Checks preface and first SETTINGS; returns what of `buffer` they took, once they are whole."""
        if not buffer.startswith(PREFACE[: len(buffer)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no HTTP/2 client preface (prior knowledge is needed in clear)")
        start = len(PREFACE) + HEAD_SIZE
        if len(buffer) < start:
            return 0
        word: int
        word, flags, stream_id = FRAME.unpack_from(buffer, len(PREFACE))
        if word & 0xFF != h2.SETTINGS or flags & h2.ACK:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if word >> 8 > self._limits.frame:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
        stop = start + (word >> 8)
        if len(buffer) < stop:
            return 0
        self.ready = True
        self.on_frame(h2.SETTINGS, flags, stream_id & LAST_STREAM_ID, buffer[start:stop])
        return stop

    def _part_of_data(self, buffer: bytes, start: int, flags: int, stream_id: int, left: int) -> int:
        end = len(buffer)
        self._data = (stream_id, flags, left)
        if start < end:
            self.on_data(buffer, start, end, 0, stream_id)
        return end

    def _rest_of_data(self, buffer: bytes, pos: int) -> int:
        assert self._data is not None
        stream_id, flags, left = self._data
        end = len(buffer)
        if pos + left > end:
            return self._part_of_data(buffer, pos, flags, stream_id, pos + left - end)
        self._data = None
        self.on_data(buffer, pos, pos + left, flags, stream_id)
        return pos + left

    def _whole(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None:
            if kind != h2.CONTINUATION or stream_id != self._block[0]:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "header block interrupted")
            self._continue(flags, payload)
        elif kind == h2.HEADERS:
            block = h2.unpadded(payload, flags) if flags & _NOT_ALL_BLOCK else payload
            if flags & h2.HAS_PRIORITY and _depends_on(payload, flags) == stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "stream depends on itself")
            if flags & h2.END_HEADERS:
                self.on_headers(flags, stream_id, block)
            else:
                self._block = (stream_id, flags, [block])
        elif kind == h2.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self.on_frame(kind, flags, stream_id, payload)

    def _continue(self, flags: int, payload: bytes) -> None:
        assert self._block is not None
        stream_id, first_flags, fragments = self._block
        fragments.append(payload)
        size = sum(map(len, fragments))
        if len(fragments) > self._limits.continuations or size > HARD_FACTOR * self._limits.header_list:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "header block too long")
        if flags & h2.END_HEADERS:
            self._block = None
            self.on_headers(first_flags, stream_id, b"".join(fragments))


def _depends_on(payload: bytes, flags: int) -> int:
    start = 1 if flags & PADDED else 0
    return int.from_bytes(payload[start : start + 4], "big") & LAST_STREAM_ID
