"""The client's half of HTTP/1.1 for one kept-alive connection that asks for one page again and again.

Sans connection handling: who connects, when to ask and what a failure means is the caller's. The page is handed over in
the buffer it was received into, so a 70 KB page is copied once, by the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

from epp.errors import SourceError

FIRST_BUFFER = 128 * 1024
KEPT_BUFFERS = 32
MAX_HEAD = 16 * 1024
MAX_CHUNK_LINE = 1024
_SCRATCH_SIZE = 4096

TookPage = Callable[[bytearray, int, int], None]
"""Called with a buffer, and where in it the page begins and ends; the buffer is reused after the call."""
Failed = Callable[[SourceError], None]


class Buffers:
    """Receive buffers, lent for one page each: a few stay warm instead of one per connection growing cold."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        return self._free.pop() if self._free else bytearray(FIRST_BUFFER)

    def give(self, buffer: bytearray) -> None:
        if len(self._free) < KEPT_BUFFERS:
            self._free.append(buffer)

    def larger(self, buffer: bytearray) -> bytearray:
        """A buffer twice the size with the same beginning; SourceError if the page may not be that large."""
        if len(buffer) >= self.limit + MAX_HEAD:
            raise SourceError(f"the page is larger than {self.limit} bytes")
        return buffer + bytes(min(len(buffer), self.limit + MAX_HEAD - len(buffer)))


class _Await(Enum):
    """What the next bytes are."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    CLOSE = auto()


def request_bytes(host: str, path: str) -> bytes:
    """A GET that asks for the plain text format, uncompressed: inflating costs more than reading."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: endpoint-picker\r\n"
        "Accept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\n\r\n"
    ).encode()


class PageConnection(asyncio.BufferedProtocol):
    """One connection, at most one request outstanding. Exactly one callback follows every `ask`."""

    def __init__(self, request: bytes, buffers: Buffers, took: TookPage, failed: Failed) -> None:
        self._request = request
        self._buffers = buffers
        self._took = took
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._state = _Await.NOTHING
        self._buffer: bytearray | None = None
        self._scratch: Final = bytearray(_SCRATCH_SIZE)
        self._filled = self._start = self._stop = self._read = self._left = 0
        self._keep = True
        # The head of the last answer, and what it said: state, where the page starts and stops.
        self._known_head = b""
        self._known = (_Await.NOTHING, 0, 0)
        self.pages = 0
        """Pages this connection has brought."""

    @property
    def usable(self) -> bool:
        """Whether `ask` may be called."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and self._state is _Await.NOTHING

    @property
    def was_idle(self) -> bool:
        """In a failure callback: whether the server had just closed a connection that had been good until then."""
        return self.pages > 0 and self._filled == 0

    def ask(self) -> None:
        """Sends the request."""
        assert self._transport is not None, "not connected"
        assert self._state is _Await.NOTHING, "one request at a time"
        self._buffer = self._buffers.take()
        self._filled = 0
        self._state = _Await.HEAD
        self._transport.write(self._request)

    def close(self) -> None:
        """Ends the connection; an outstanding request gets no callback any more."""
        self._settle()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of asyncio's

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is None:
            return memoryview(self._scratch)
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self._buffer
        if buffer is None:  # bytes nobody asked for
            self.close()
            return
        self._filled += nbytes
        try:
            while self._step(buffer):
                pass
            if self._buffer is not None and self._filled == len(buffer):
                self._buffer = self._buffers.larger(buffer)
        except SourceError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        if self._state is _Await.CLOSE:
            self._stop = self._filled
            self._keep = False
            self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is not _Await.NOTHING:
            reason = f": {exc}" if exc else ""
            self._fail(SourceError(f"connection closed after {self._filled} bytes of the answer{reason}"))

    def _step(self, buffer: bytearray) -> bool:
        """Goes on by one element of the answer; False when more bytes are needed or the page is complete."""
        match self._state:
            case _Await.HEAD:
                return self._head(buffer)
            case _Await.BODY if self._filled >= self._stop:
                self._keep = self._keep and self._filled == self._stop
                self._finish()
            case _Await.CHUNK_SIZE:
                return self._chunk_size(buffer)
            case _Await.CHUNK:
                return self._chunk(buffer)
            case _Await.CHUNK_END:
                return self._chunk_end(buffer)
            case _Await.TRAILER:
                return self._trailer(buffer)
        return False

    def _head(self, buffer: bytearray) -> bool:
        if self._known_head and self._filled > len(self._known_head) and buffer.startswith(self._known_head):
            self._state, self._start, self._stop = self._known
            self._read = self._start
            return True
        end = buffer.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled > MAX_HEAD:
                raise SourceError(f"the answer's head is larger than {MAX_HEAD} bytes")
            return False
        head = bytes(buffer[: end + 2]).lower()
        if not head.startswith(b"http/1."):
            raise SourceError(f"no HTTP/1 answer: {head[:40]!r}")
        if head[9:12] != b"200":
            raise SourceError(f"status {head[9:12].decode(errors='replace')}")
        if _header(head, b"content-encoding") not in {b"", b"identity"}:
            raise SourceError("a compressed answer, which was not asked for")
        self._keep = head.startswith(b"http/1.1") and b"close" not in _header(head, b"connection")
        self._start = self._stop = self._read = end + 4
        if b"chunked" in _header(head, b"transfer-encoding"):
            self._state = _Await.CHUNK_SIZE
        elif length := _header(head, b"content-length"):
            self._state = _Await.BODY
            self._stop += self._size(length, 10)
        else:
            self._state = _Await.CLOSE
        self._known_head = bytes(buffer[: end + 4])
        self._known = self._state, self._start, self._stop
        return True

    def _chunk_size(self, buffer: bytearray) -> bool:
        line = self._line(buffer)
        if line is None:
            return False
        self._left = self._size(line.partition(b";")[0], 16)
        self._state = _Await.CHUNK if self._left else _Await.TRAILER
        return True

    def _chunk(self, buffer: bytearray) -> bool:
        size = min(self._left, self._filled - self._read)
        if self._stop != self._read:  # not the first chunk: close the gap that its size line left
            buffer[self._stop : self._stop + size] = buffer[self._read : self._read + size]
        self._stop += size
        self._read += size
        self._left -= size
        if self._left:
            return False
        self._state = _Await.CHUNK_END
        return True

    def _chunk_end(self, buffer: bytearray) -> bool:
        if self._filled - self._read < 2:
            return False
        if not buffer.startswith(b"\r\n", self._read):
            raise SourceError("a chunk is longer than it says")
        self._read += 2
        self._state = _Await.CHUNK_SIZE
        return True

    def _trailer(self, buffer: bytearray) -> bool:
        line = self._line(buffer)
        if line is None:
            return False
        if line:
            return True
        self._keep = self._keep and self._read == self._filled
        self._finish()
        return False

    def _line(self, buffer: bytearray) -> bytes | None:
        """The next line, once it is complete."""
        end = buffer.find(b"\r\n", self._read, self._filled)
        if end < 0:
            if self._filled - self._read > MAX_CHUNK_LINE:
                raise SourceError("a chunk header that does not end")
            return None
        line = bytes(buffer[self._read : end])
        self._read = end + 2
        return line

    def _size(self, digits: bytes, base: int) -> int:
        try:
            size = int(digits, base)
        except ValueError:
            size = -1
        if size < 0:
            raise SourceError(f"{digits[:20]!r} is no size")
        if self._stop - self._start + size > self._buffers.limit:
            raise SourceError(f"the page is larger than {self._buffers.limit} bytes")
        return size

    def _finish(self) -> None:
        buffer = self._buffer
        assert buffer is not None, "a page needs a buffer"
        self._state = _Await.NOTHING
        self._buffer = None
        self.pages += 1
        if not self._keep and self._transport is not None:
            self._transport.close()
        try:
            self._took(buffer, self._start, self._stop)
        finally:
            self._buffers.give(buffer)

    def _fail(self, error: SourceError) -> None:
        self.close()
        self._failed(error)

    def _settle(self) -> None:
        self._state = _Await.NOTHING
        if self._buffer is not None:
            self._buffers.give(self._buffer)
            self._buffer = None


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value from a lower-cased head; empty if there is none."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    return head[at : head.find(b"\r\n", at)].strip()
