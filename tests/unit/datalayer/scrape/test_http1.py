"""The HTTP/1.1 client protocol of the scraper, with a transport that records."""

import pytest

from epp.datalayer.scrape.http1 import (
    INITIAL_BUFFER_BYTES,
    MAX_RESPONSE_HEAD_BYTES,
    BufferPool,
    ScrapeConnection,
    build_request,
)
from epp.errors import DataSourceError

REQUEST = build_request("10.0.0.1:8000", "/metrics")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def sized(body: bytes, *headers: bytes) -> bytes:
    head = b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers])
    return head + b"\r\n\r\n" + body


class RecordingTransport:
    """A connection and its transport; `pages` and `errors` are what the callbacks received."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.buffers = BufferPool(limit)
        self.pages: list[bytes] = []
        self.errors: list[str] = []
        self.sent: list[bytes] = []
        self.closing = False
        self.connection = ScrapeConnection(REQUEST, self.buffers, self.on_page, self.on_failure)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def on_page(self, buffer: bytearray, start: int, end: int) -> None:
        self.pages.append(bytes(buffer[start:end]))

    def on_failure(self, error: DataSourceError) -> None:
        self.errors.append(str(error))

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def receive(self, data: bytes, step: int = 0) -> None:
        """What the server sends, in reads of `step` bytes at most."""
        while data:
            room = self.connection.get_buffer(65536)
            size = min(len(room), len(data), step or len(data))
            room[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]


@pytest.fixture
def wire() -> RecordingTransport:
    return RecordingTransport()


ANSWERS = [
    (sized(b"m 1\n"), b"m 1\n"),
    (sized(b""), b""),
    (sized(b"x" * 300_000), b"x" * 300_000),
    (CHUNKED + b"4\r\nm 1\n\r\n0\r\n\r\n", b"m 1\n"),
    (CHUNKED + b"2;ext=1\r\nm \r\n1\r\n1\r\n01\r\n\n\r\n000\r\nTrailer: x\r\n\r\n", b"m 1\n"),
    (CHUNKED + b"ffff\r\n" + b"y" * 65535 + b"\r\nA\r\n0123456789\r\n0\r\n\r\n", b"y" * 65535 + b"0123456789"),
    (CHUNKED + b"0\r\n\r\n", b""),
]


@pytest.mark.parametrize(("answer", "page"), ANSWERS)
@pytest.mark.parametrize("step", [0, 1, 7, 1000])
def test_successive_pages_received_in_pieces_of_any_size(wire, answer, page, step):
    if step == 1 and len(answer) > 1000:
        answer, page = sized(b"short"), b"short"
    for _ in range(3):
        assert wire.connection.is_idle
        wire.connection.send_request()
        assert not wire.connection.is_idle
        wire.receive(answer, step)
    assert (wire.pages, wire.errors) == ([page] * 3, [])
    assert wire.sent == [REQUEST] * 3
    assert wire.connection.pages_received == 3


def test_build_request():
    assert REQUEST.startswith(b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n")
    assert b"Accept-Encoding: identity\r\n" in REQUEST
    assert REQUEST.endswith(b"\r\n\r\n")


def test_a_body_without_length_ends_with_the_connection(wire):
    wire.connection.send_request()
    wire.receive(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nm 1\nm 2\n", 5)
    assert wire.pages == []
    wire.connection.eof_received()
    wire.connection.connection_lost(None)
    assert (wire.pages, wire.errors) == ([b"m 1\nm 2\n"], [])
    assert not wire.connection.is_idle


def test_connection_close_is_honoured(wire):
    wire.connection.send_request()
    wire.receive(sized(b"m 1\n", b"Connection: close"))
    assert wire.pages == [b"m 1\n"]
    assert wire.closing


def test_a_changed_response_head_is_parsed_again(wire):
    for body in (b"m 1\n", b"m 10\n", b"m 1\n"):
        wire.connection.send_request()
        wire.receive(sized(body))
    assert wire.pages == [b"m 1\n", b"m 10\n", b"m 1\n"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n", "status 503"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "not an HTTP/1 response: b'ssh-2.0-openssh_9"),
        (b"\0" * (MAX_RESPONSE_HEAD_BYTES + 1), f"the response head is larger than {MAX_RESPONSE_HEAD_BYTES} bytes"),
        (sized(b"x", b"Content-Encoding: gzip"), "the response is compressed, although Accept-Encoding is identity"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "invalid length b'many'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "invalid length b'-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n", "the page is larger than 1048576 bytes"),
        (CHUNKED + b"zz\r\n", "invalid length b'zz'"),
        (CHUNKED + b"100001\r\n", "the page is larger than 1048576 bytes"),
        (CHUNKED + b"2\r\nm 1\n\r\n", "a chunk is longer than its size line says"),
        (CHUNKED + b"1" * 2000, "the size line of a chunk does not end"),
    ],
)
@pytest.mark.parametrize("step", [0, 100])
def test_malformed_responses_are_failures(wire, answer, error, step):
    wire.connection.send_request()
    wire.receive(answer, step)
    assert [message[: len(error)] for message in wire.errors] == [error]
    assert wire.pages == []
    assert wire.closing


def test_a_page_above_the_limit_is_a_failure():
    wire = RecordingTransport(limit=200_000)
    wire.connection.send_request()
    wire.receive(b"HTTP/1.0 200 OK\r\n\r\n")
    for _ in range(25):
        wire.receive(b"x" * 10_000)
    assert wire.errors == ["the page is larger than 200000 bytes"]


def test_a_connection_lost_within_a_page_is_a_failure(wire):
    wire.connection.send_request()
    wire.receive(sized(b"m 1\n")[:-1])
    wire.connection.connection_lost(ConnectionResetError("reset"))
    assert wire.errors == [f"connection closed after {len(sized(b'm 1' + b'.')) - 1} bytes of the response: reset"]
    assert not wire.connection.closed_while_idle


def test_a_persistent_connection_closed_before_the_response_is_recognised(wire):
    wire.connection.send_request()
    wire.receive(sized(b"m 1\n"))
    wire.connection.send_request()
    wire.connection.connection_lost(None)
    assert wire.errors == ["connection closed after 0 bytes of the response"]
    assert wire.connection.closed_while_idle


def test_close_calls_no_callback(wire):
    wire.connection.send_request()
    wire.connection.close()
    wire.connection.connection_lost(None)
    assert (wire.pages, wire.errors) == ([], [])


def test_bytes_without_a_request_close_the_connection(wire):
    wire.receive(b"hello")
    assert wire.closing
    assert wire.errors == []


def test_bytes_after_the_page_close_the_connection(wire):
    wire.connection.send_request()
    wire.receive(sized(b"m 1\n") + b"more")
    assert wire.pages == [b"m 1\n"]
    assert wire.closing


def test_connections_share_receive_buffers(wire):
    other = ScrapeConnection(REQUEST, wire.buffers, wire.on_page, wire.on_failure)
    other.connection_made(wire)  # type: ignore[arg-type]
    for connection in (wire.connection, other):
        connection.send_request()
        before = connection.get_buffer(0).obj
        assert len(before) == INITIAL_BUFFER_BYTES
        wire.connection, _ = connection, wire.receive
        wire.receive(sized(b"m 1\n"))
    assert wire.buffers.acquire() is before
