"""Bytes to frames: the client's preface, frame borders, header blocks put together from their fragments."""

from __future__ import annotations

from abc import abstractmethod

from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frames import (
    CONNECTION_PREFACE,
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    MAX_STREAM_ID,
    PADDED,
    ErrorCode,
    Http2ConnectionError,
)
from epp.grpc.http2.headers import HARD_LIMIT_FACTOR
from epp.grpc.limits import TransportLimits

_PADDED_OR_PRIORITY = h2.PADDED | h2.PRIORITY_FLAG


class FrameReader:
    """Splits what a client sends, wherever the reads cut it; the subclass acts on frames.

    DATA is handed on as it comes, without waiting for the rest of its frame; all other frames come whole.
    """

    def __init__(self, limits: TransportLimits) -> None:
        self.preface_received = False
        """The client has shown its preface and first SETTINGS."""
        self._limits = limits
        self._unparsed = b""
        self._partial_data: tuple[int, int, int] | None = None  # stream id, flags, octets to come of a DATA frame
        self._partial_block: tuple[int, int, list[bytes]] | None = None  # stream id, flags, fragments of a header block

    @abstractmethod
    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """A part of a DATA frame; flags come with its last part."""

    @abstractmethod
    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block."""

    @abstractmethod
    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other frame."""

    def feed(self, data: bytes) -> None:
        """Takes what was read. Raises ConnectionFault."""
        buffer = self._unparsed + data if self._unparsed else data
        pos, end = 0, len(buffer)
        if not self.preface_received:
            pos = self._read_preface(buffer)
            if not self.preface_received:
                self._unparsed = buffer
                return
        if self._partial_data is not None:
            pos = self._resume_data(buffer, pos)
        unpack, on_data, longest = FRAME_HEADER.unpack_from, self.on_data, self._limits.max_frame_size << 8 | 0xFF
        while (start := pos + FRAME_HEADER_SIZE) <= end:
            word, flags, stream_id = unpack(buffer, pos)
            if word > longest:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
            stop = start + (word >> 8)
            stream_id &= MAX_STREAM_ID
            if not word & 0xFF and not flags & PADDED and self._partial_block is None:  # DATA
                if stop > end:
                    pos = self._deliver_partial_data(buffer, start, flags, stream_id, stop - end)
                    break
                on_data(buffer, start, stop, flags, stream_id)
            elif stop > end:
                break
            else:
                self._handle_frame(word & 0xFF, flags, stream_id, buffer[start:stop])
            pos = stop
        self._unparsed = buffer[pos:]

    def _read_preface(self, buffer: bytes) -> int:
        """Checks preface and first SETTINGS; returns what of `buffer` they took, once they are whole."""
        if not buffer.startswith(CONNECTION_PREFACE[: len(buffer)]):
            raise Http2ConnectionError(
                ErrorCode.PROTOCOL_ERROR, "no HTTP/2 client preface (prior knowledge is needed in clear)"
            )
        start = len(CONNECTION_PREFACE) + FRAME_HEADER_SIZE
        if len(buffer) < start:
            return 0
        word: int
        word, flags, stream_id = FRAME_HEADER.unpack_from(buffer, len(CONNECTION_PREFACE))
        if word & 0xFF != h2.SETTINGS or flags & h2.ACK:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if word >> 8 > self._limits.max_frame_size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
        stop = start + (word >> 8)
        if len(buffer) < stop:
            return 0
        self.preface_received = True
        self.on_frame(h2.SETTINGS, flags, stream_id & MAX_STREAM_ID, buffer[start:stop])
        return stop

    def _deliver_partial_data(self, buffer: bytes, start: int, flags: int, stream_id: int, left: int) -> int:
        end = len(buffer)
        self._partial_data = (stream_id, flags, left)
        if start < end:
            self.on_data(buffer, start, end, 0, stream_id)
        return end

    def _resume_data(self, buffer: bytes, pos: int) -> int:
        assert self._partial_data is not None
        stream_id, flags, left = self._partial_data
        end = len(buffer)
        if pos + left > end:
            return self._deliver_partial_data(buffer, pos, flags, stream_id, pos + left - end)
        self._partial_data = None
        self.on_data(buffer, pos, pos + left, flags, stream_id)
        return pos + left

    def _handle_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._partial_block is not None:
            if kind != h2.CONTINUATION or stream_id != self._partial_block[0]:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "header block interrupted")
            self._append_continuation(flags, payload)
        elif kind == h2.HEADERS:
            block = h2.strip_padding(payload, flags) if flags & _PADDED_OR_PRIORITY else payload
            if flags & h2.PRIORITY_FLAG and _stream_dependency(payload, flags) == stream_id:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")
            if flags & h2.END_HEADERS:
                self.on_headers(flags, stream_id, block)
            else:
                self._partial_block = (stream_id, flags, [block])
        elif kind == h2.CONTINUATION:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self.on_frame(kind, flags, stream_id, payload)

    def _append_continuation(self, flags: int, payload: bytes) -> None:
        assert self._partial_block is not None
        stream_id, first_flags, fragments = self._partial_block
        fragments.append(payload)
        size = sum(map(len, fragments))
        if (
            len(fragments) > self._limits.max_continuations
            or size > HARD_LIMIT_FACTOR * self._limits.max_header_list_size
        ):
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if flags & h2.END_HEADERS:
            self._partial_block = None
            self.on_headers(first_flags, stream_id, b"".join(fragments))


def _stream_dependency(payload: bytes, flags: int) -> int:
    start = 1 if flags & PADDED else 0
    return int.from_bytes(payload[start : start + 4], "big") & MAX_STREAM_ID
