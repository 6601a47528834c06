"""Splits the octets of a client into frames: connection preface, frame boundaries, assembly of header blocks."""

from __future__ import annotations

from typing import Protocol

from epp.grpc.http2 import frames
from epp.grpc.http2.frames import (
    CONNECTION_PREFACE,
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    MAX_STREAM_ID,
    PADDED,
    ErrorCode,
    Http2ConnectionError,
)
from epp.grpc.limits import TransportLimits

_PADDED_OR_PRIORITY = frames.PADDED | frames.PRIORITY_FLAG


class FrameHandler(Protocol):
    """Receives the frames of a connection in the order in which the client sent them."""

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        """Octets `start` to `end` of `buffer` are DATA. Of a frame in parts only the last part has the flags."""

    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """A complete header block; `flags` are those of the HEADERS frame."""

    def on_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Any other frame, padded DATA included."""


class FrameReader:
    """Parser of one connection's input, independent of where the reads cut it.

    DATA is delivered as it arrives, without waiting for the rest of its frame: what is buffered here is at most one
    frame of another type, or one header block. `feed` raises Http2ConnectionError and must not be called afterwards.
    """

    __slots__ = ("_handler", "_limits", "_on_data", "_partial_block", "_partial_data", "_unparsed", "preface_received")

    def __init__(self, limits: TransportLimits, handler: FrameHandler) -> None:
        self.preface_received = False
        """The client has sent its connection preface, the first SETTINGS frame included."""
        self._limits = limits
        self._handler = handler
        self._on_data = handler.on_data
        self._unparsed = b""
        # stream id, flags and octets still to come of a DATA frame that was delivered in part
        self._partial_data: tuple[int, int, int] | None = None
        # stream id, flags and fragments of a header block without END_HEADERS so far
        self._partial_block: tuple[int, int, list[bytes]] | None = None

    def feed(self, data: bytes) -> None:
        """Parses what was read and calls the handler for each frame. Raises Http2ConnectionError."""
        buffer = self._unparsed + data if self._unparsed else data
        pos, end = 0, len(buffer)
        if not self.preface_received:
            pos = self._read_preface(buffer)
            if not self.preface_received:
                self._unparsed = buffer
                return
        if self._partial_data is not None:
            pos = self._resume_data(buffer, pos)
        unpack, on_data = FRAME_HEADER.unpack_from, self._on_data
        max_word = self._limits.max_frame_size << 8 | 0xFF
        while (start := pos + FRAME_HEADER_SIZE) <= end:
            word, flags, stream_id = unpack(buffer, pos)
            if word > max_word:
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
        """Checks the client's preface and first SETTINGS (RFC 9113, 3.4); returns their length, 0 while incomplete."""
        if not buffer.startswith(CONNECTION_PREFACE[: len(buffer)]):
            raise Http2ConnectionError(
                ErrorCode.PROTOCOL_ERROR, "no HTTP/2 connection preface (cleartext clients need prior knowledge)"
            )
        start = len(CONNECTION_PREFACE) + FRAME_HEADER_SIZE
        if len(buffer) < start:
            return 0
        word: int
        word, flags, stream_id = FRAME_HEADER.unpack_from(buffer, len(CONNECTION_PREFACE))
        if word & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if word >> 8 > self._limits.max_frame_size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame larger than SETTINGS_MAX_FRAME_SIZE")
        stop = start + (word >> 8)
        if len(buffer) < stop:
            return 0
        self.preface_received = True
        self._handler.on_frame(frames.SETTINGS, flags, stream_id & MAX_STREAM_ID, buffer[start:stop])
        return stop

    def _deliver_partial_data(self, buffer: bytes, start: int, flags: int, stream_id: int, missing: int) -> int:
        end = len(buffer)
        self._partial_data = (stream_id, flags, missing)
        if start < end:
            self._on_data(buffer, start, end, 0, stream_id)
        return end

    def _resume_data(self, buffer: bytes, pos: int) -> int:
        assert self._partial_data is not None
        stream_id, flags, missing = self._partial_data
        end = len(buffer)
        if pos + missing > end:
            return self._deliver_partial_data(buffer, pos, flags, stream_id, pos + missing - end)
        self._partial_data = None
        self._on_data(buffer, pos, pos + missing, flags, stream_id)
        return pos + missing

    def _handle_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._partial_block is not None:
            # A header block is contiguous: only CONTINUATION of the same stream may follow (RFC 9113, 6.2 and 6.10).
            if frame_type != frames.CONTINUATION or stream_id != self._partial_block[0]:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "header block interrupted by another frame")
            self._append_continuation(flags, payload)
        elif frame_type == frames.HEADERS:
            block = frames.strip_padding(payload, flags) if flags & _PADDED_OR_PRIORITY else payload
            # RFC 7540, 5.3.1: a stream error, here treated as a connection error (RFC 9113, 5.4.1). RFC 9113, 5.3.2,
            # deprecates priorities but keeps their fields.
            if flags & frames.PRIORITY_FLAG and frames.parse_stream_dependency(payload, flags) == stream_id:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")
            if flags & frames.END_HEADERS:
                self._handler.on_headers(flags, stream_id, block)
            else:
                self._partial_block = (stream_id, flags, [block])
        elif frame_type == frames.CONTINUATION:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self._handler.on_frame(frame_type, flags, stream_id, payload)

    def _append_continuation(self, flags: int, payload: bytes) -> None:
        assert self._partial_block is not None
        stream_id, first_flags, fragments = self._partial_block
        fragments.append(payload)
        size = sum(map(len, fragments))
        # The CONTINUATION flood (CERT VU#421644).
        if len(fragments) > self._limits.max_continuations or size > self._limits.max_header_block_size:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            self._partial_block = None
            self._handler.on_headers(first_flags, stream_id, b"".join(fragments))
