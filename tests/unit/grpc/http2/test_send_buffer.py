"""Output that streams share: turns, bursts, and a socket that is full."""

from __future__ import annotations

from epp.grpc.http2 import frames
from epp.grpc.http2.send_buffer import SendBuffer
from epp.grpc.limits import TransportLimits


def test_streams_share_the_connection_window_round_robin(http2):
    peer = http2.create_peer()
    peer.send_preface(window=1 << 20)
    big = bytes(200_000)
    response = []
    for stream in (1, 3):
        response += peer.send(peer.headers_frame(stream, path="/t/Record"))
        peer.calls[-1].send(big)
        peer.calls[-1].finish()
    response += peer.read()
    assert len(http2.stream_data(response, 1)) == 65_535
    response = peer.send(frames.encode_window_update(0, 262_144))
    assert [len(http2.stream_data(response, stream)) for stream in (1, 3)] == [131_072, 131_072]
    response = peer.send(frames.encode_window_update(0, 1 << 20))
    ended = [frame.stream for frame in response if frame.ended]
    assert sorted(ended) == [1, 3]


def test_no_data_is_written_while_writing_is_paused(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.connection.pause_writing()
    peer.calls[0].send(b"x")
    peer.calls[0].finish()
    assert peer.read() == []
    assert not peer.connection.has_data_to_send
    response = peer.send(frames.encode_frame(frames.PING, 0, 0, b"12345678"))
    assert http2.types(response) == ["PING"]
    peer.connection.resume_writing()
    assert http2.types(peer.read()) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]


def test_a_large_response_is_written_in_bursts(http2):
    peer = http2.create_peer(write_burst=100_000)
    peer.send_preface(window=frames.MAX_WINDOW_SIZE)
    peer.send(frames.encode_window_update(0, 1 << 30) + peer.headers_frame(path="/t/Record"))
    peer.calls[0].send(bytes(1 << 20))
    first = peer.connection.data_to_send()
    assert 100_000 <= len(first) <= 101_000
    assert peer.connection.has_data_to_send
    assert peer.connection._send_buffer.buffered_bytes == (1 << 20) + 5 - 100_000
    total = len(first)
    while peer.connection.has_data_to_send:
        total += len(peer.connection.data_to_send())
    assert total >= 1 << 20


class StubStream:
    """A stream that writes at most 10 octets at its turn, as far as window and burst allow."""

    def __init__(self, buffer: SendBuffer, size: int) -> None:
        self.buffer, self.pending_bytes, self.is_ready, self.aborted = buffer, size, False, False
        self.wait_for_turn()

    def wait_for_turn(self) -> None:
        self.is_ready = True
        self.buffer.ready_streams.append(self)

    def write_pending(self) -> None:
        size = min(self.pending_bytes, 10, self.buffer.send_window, self.buffer.burst_left)
        self.buffer.chunks.append(b"x" * size)
        self.buffer.send_window -= size
        self.buffer.burst_left -= size
        self.pending_bytes -= size
        if self.pending_bytes:
            self.wait_for_turn()

    def abort_overflow(self) -> None:
        self.aborted = True
        self.buffer.chunks.append(b"reset")


def build_buffer(**limits: int) -> tuple[SendBuffer, list[str]]:
    flushes: list[str] = []
    return SendBuffer(TransportLimits(**limits), lambda: flushes.append("flush")), flushes


def test_a_stream_without_output_leaves_the_line_although_the_window_is_used_up():
    buffer, _ = build_buffer()
    buffer.send_window = 0
    ended, waiting = StubStream(buffer, 0), StubStream(buffer, 5)
    buffer.take()
    assert list(buffer.ready_streams) == [waiting]
    assert (ended.is_ready, waiting.is_ready) == (False, True)


def test_a_burst_ends_the_turns_until_the_next_take():
    buffer, _ = build_buffer(write_burst=20)
    one, two = StubStream(buffer, 15), StubStream(buffer, 15)
    buffer.take()
    assert (one.pending_bytes, two.pending_bytes) == (5, 5)
    buffer.take()
    assert (one.pending_bytes, two.pending_bytes) == (0, 0)


def test_overflowed_streams_are_aborted_when_output_is_taken():
    buffer, _ = build_buffer()
    stream = StubStream(buffer, 0)
    buffer.overflowed.append(stream)
    assert not stream.aborted
    assert b"reset" in buffer.take()
    assert buffer.overflowed == []


def test_a_flush_is_scheduled_until_the_output_is_taken():
    buffer, flushes = build_buffer()
    buffer.request_flush()
    assert (buffer.flush_scheduled, flushes) == (True, ["flush"])
    buffer.chunks += [b"a", memoryview(b"b")]
    assert buffer.take() == b"ab"
    assert not buffer.flush_scheduled
    assert buffer.take() == b""
