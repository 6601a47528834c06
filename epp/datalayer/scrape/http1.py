"""HTTP/1.1 client protocol (RFC 9112) for one persistent connection on which one page is requested again and again.

Connecting, scheduling and the meaning of failures are the caller's business. A page is delivered in the buffer into
which it was received, so the kernel's copy is the only one of its 70 KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

from epp.errors import DataSourceError

INITIAL_BUFFER_BYTES = 128 * 1024
MAX_POOLED_BUFFERS = 32
MAX_RESPONSE_HEAD_BYTES = 16 * 1024
MAX_CHUNK_LINE_BYTES = 1024
_SCRATCH_SIZE = 4096

OnPage = Callable[[bytearray, int, int], None]
"""Called with a buffer, and start and end of the page in it. The buffer is reused after the call."""
OnFailure = Callable[[DataSourceError], None]


class BufferPool:
    """Receive buffers, each in use for one page at a time, shared by all connections: a few stay in the CPU's caches.

    A page may have `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: list[bytearray] = []

    def acquire(self) -> bytearray:
        return self._free.pop() if self._free else bytearray(INITIAL_BUFFER_BYTES)

    def release(self, buffer: bytearray) -> None:
        if len(self._free) < MAX_POOLED_BUFFERS:
            self._free.append(buffer)

    def grow(self, buffer: bytearray) -> bytearray:
        """A buffer of up to twice the size with the same content. DataSourceError if the page exceeds the limit."""
        if len(buffer) >= self.limit + MAX_RESPONSE_HEAD_BYTES:
            raise DataSourceError(f"the page is larger than {self.limit} bytes")
        return buffer + bytes(min(len(buffer), self.limit + MAX_RESPONSE_HEAD_BYTES - len(buffer)))


class _ParseState(Enum):
    """What the next bytes of the response are."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    AFTER_CHUNK = auto()
    TRAILER = auto()
    UNTIL_CLOSE = auto()


def build_request(host: str, path: str) -> bytes:
    """A GET request for the Prometheus text format, not compressed: decompression costs more than reading."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: endpoint-picker\r\n"
        "Accept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\n\r\n"
    ).encode()


class ScrapeConnection(asyncio.BufferedProtocol):
    """One connection with at most one request in flight. Every `send_request` is followed by exactly one callback."""

    def __init__(self, request: bytes, buffers: BufferPool, on_page: OnPage, on_failure: OnFailure) -> None:
        self._request = request
        self._buffers = buffers
        self._on_page = on_page
        self._on_failure = on_failure
        self._transport: asyncio.Transport | None = None
        self._state = _ParseState.IDLE
        self._buffer: bytearray | None = None
        self._scratch: Final = bytearray(_SCRATCH_SIZE)
        self._filled = self._page_start = self._page_end = self._read_offset = self._chunk_remaining = 0
        self._keep_alive = True
        # The head of the last response, and what was parsed from it: the next state, start and end of the page.
        self._cached_head = b""
        self._cached_head_result = (_ParseState.IDLE, 0, 0)
        self.pages_received = 0
        """Pages received on this connection."""

    @property
    def is_idle(self) -> bool:
        """Whether `send_request` may be called."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._state is _ParseState.IDLE

    @property
    def closed_while_idle(self) -> bool:
        """Whether the server closed a persistent connection before it answered the request; for failure callbacks."""
        return self.pages_received > 0 and self._filled == 0

    def send_request(self) -> None:
        """Sends the request; one of the callbacks follows, unless `close` is called before."""
        assert self._transport is not None, "not connected"
        assert self._state is _ParseState.IDLE, "one request at a time"
        self._buffer = self._buffers.acquire()
        self._filled = 0
        self._state = _ParseState.HEAD
        self._transport.write(self._request)

    def close(self) -> None:
        """Closes the connection. A request in flight gets no callback."""
        self._release_buffer()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from asyncio's

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is None:
            return memoryview(self._scratch)
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self._buffer
        if buffer is None:  # bytes without a request: the connection cannot be trusted
            self.close()
            return
        self._filled += nbytes
        try:
            while self._parse_next(buffer):
                pass
            if self._buffer is not None and self._filled == len(buffer):
                self._buffer = self._buffers.grow(buffer)
        except DataSourceError as error:
            self._report_failure(error)

    def eof_received(self) -> bool:
        if self._state is _ParseState.UNTIL_CLOSE:
            self._page_end = self._filled
            self._keep_alive = False
            self._complete_page()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is not _ParseState.IDLE:
            reason = f"connection closed after {self._filled} bytes of the response"
            self._report_failure(DataSourceError(f"{reason}: {exc}" if exc else reason))

    def _parse_next(self, buffer: bytearray) -> bool:
        """Parses one element of the response; False when more bytes are needed, or the page is complete."""
        match self._state:
            case _ParseState.HEAD:
                return self._parse_head(buffer)
            case _ParseState.BODY:
                if self._filled >= self._page_end:
                    self._keep_alive = self._keep_alive and self._filled == self._page_end
                    self._complete_page()
            case _ParseState.CHUNK_SIZE:
                return self._parse_chunk_size(buffer)
            case _ParseState.CHUNK:
                return self._parse_chunk_data(buffer)
            case _ParseState.AFTER_CHUNK:
                return self._parse_chunk_end(buffer)
            case _ParseState.TRAILER:
                return self._parse_trailer(buffer)
        return False

    def _parse_head(self, buffer: bytearray) -> bool:
        # Most servers send the same head with every page, as long as the length has the same number of digits.
        if self._cached_head and self._filled > len(self._cached_head) and buffer.startswith(self._cached_head):
            self._state, self._page_start, self._page_end = self._cached_head_result
            self._read_offset = self._page_start
            return True
        end = buffer.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled > MAX_RESPONSE_HEAD_BYTES:
                raise DataSourceError(f"the response head is larger than {MAX_RESPONSE_HEAD_BYTES} bytes")
            return False
        head = bytes(buffer[: end + 2]).lower()
        if not head.startswith(b"http/1."):
            raise DataSourceError(f"not an HTTP/1 response: {head[:40]!r}")
        if head[9:12] != b"200":
            raise DataSourceError(f"status {head[9:12].decode(errors='replace')}")
        if _header_value(head, b"content-encoding") not in {b"", b"identity"}:
            raise DataSourceError("the response is compressed, although Accept-Encoding is identity")
        self._keep_alive = head.startswith(b"http/1.1") and b"close" not in _header_value(head, b"connection")
        self._page_start = self._page_end = self._read_offset = end + 4
        # The length of the body, RFC 9112 section 6.3: chunked, else Content-Length, else until the connection closes.
        if b"chunked" in _header_value(head, b"transfer-encoding"):
            self._state = _ParseState.CHUNK_SIZE
        elif length := _header_value(head, b"content-length"):
            self._state = _ParseState.BODY
            self._page_end += self._parse_size(length, 10)
        else:
            self._state = _ParseState.UNTIL_CLOSE
        self._cached_head = bytes(buffer[: end + 4])
        self._cached_head_result = self._state, self._page_start, self._page_end
        return True

    def _parse_chunk_size(self, buffer: bytearray) -> bool:
        line = self._read_line(buffer)
        if line is None:
            return False
        self._chunk_remaining = self._parse_size(line.partition(b";")[0], 16)
        self._state = _ParseState.CHUNK if self._chunk_remaining else _ParseState.TRAILER
        return True

    def _parse_chunk_data(self, buffer: bytearray) -> bool:
        size = min(self._chunk_remaining, self._filled - self._read_offset)
        if self._page_end != self._read_offset:  # move it to the end of the chunk before, over its size line
            buffer[self._page_end : self._page_end + size] = buffer[self._read_offset : self._read_offset + size]
        self._page_end += size
        self._read_offset += size
        self._chunk_remaining -= size
        if self._chunk_remaining:
            return False
        self._state = _ParseState.AFTER_CHUNK
        return True

    def _parse_chunk_end(self, buffer: bytearray) -> bool:
        if self._filled - self._read_offset < 2:
            return False
        if not buffer.startswith(b"\r\n", self._read_offset):
            raise DataSourceError("a chunk is longer than its size line says")
        self._read_offset += 2
        self._state = _ParseState.CHUNK_SIZE
        return True

    def _parse_trailer(self, buffer: bytearray) -> bool:
        line = self._read_line(buffer)
        if line is None:
            return False
        if line:
            return True
        self._keep_alive = self._keep_alive and self._read_offset == self._filled
        self._complete_page()
        return False

    def _read_line(self, buffer: bytearray) -> bytes | None:
        """The next line without its end; None if it is not complete yet."""
        end = buffer.find(b"\r\n", self._read_offset, self._filled)
        if end < 0:
            if self._filled - self._read_offset > MAX_CHUNK_LINE_BYTES:
                raise DataSourceError("the size line of a chunk does not end")
            return None
        line = bytes(buffer[self._read_offset : end])
        self._read_offset = end + 2
        return line

    def _parse_size(self, digits: bytes, base: int) -> int:
        try:
            size = int(digits, base)
        except ValueError:
            size = -1
        if size < 0:
            raise DataSourceError(f"invalid length {digits[:20]!r}")
        if self._page_end - self._page_start + size > self._buffers.limit:
            raise DataSourceError(f"the page is larger than {self._buffers.limit} bytes")
        return size

    def _complete_page(self) -> None:
        buffer = self._buffer
        assert buffer is not None, "a page is received into a buffer"
        self._state = _ParseState.IDLE
        self._buffer = None
        self.pages_received += 1
        if not self._keep_alive and self._transport is not None:
            self._transport.close()
        try:
            self._on_page(buffer, self._page_start, self._page_end)
        finally:
            self._buffers.release(buffer)

    def _report_failure(self, error: DataSourceError) -> None:
        self.close()
        self._on_failure(error)

    def _release_buffer(self) -> None:
        self._state = _ParseState.IDLE
        if self._buffer is not None:
            self._buffers.release(self._buffer)
            self._buffer = None


def _header_value(head: bytes, name: bytes) -> bytes:
    """The value of a header in a lower-case response head; empty if there is none."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    return head[at : head.find(b"\r\n", at)].strip()
