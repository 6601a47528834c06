"""gRPC over HTTP/2: messages, half-close, status, cancellation, compression."""

from __future__ import annotations

import gzip
import zlib

import pytest

from epp.grpc.http2 import frames
from epp.grpc.http2.frames import ErrorCode


def test_a_bidirectional_rpc(http2):
    peer = http2.connect()
    response = peer.send(peer.headers_frame() + http2.data_frame(1, http2.grpc_message(b"one")))
    assert http2.types(response) == ["HEADERS", "DATA"]
    assert peer.decode_fields(response[0]) == {":status": "200", "content-type": "application/grpc"}
    assert response[1].payload == http2.grpc_message(b"one")
    response = peer.send(http2.data_frame(1, http2.grpc_message(b"two"), frames.END_STREAM))
    assert http2.types(response) == ["DATA", "HEADERS"]
    assert peer.decode_fields(response[1]) == {"grpc-status": "0"}
    assert response[1].ended
    assert peer.events == [b"one", b"two", "half-close"]
    assert (peer.rpc_stats.open_rpcs, peer.statuses) == (0, [0])


def test_finish_before_half_close_resets_the_stream_with_no_error(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.calls[0].send(b"enough")
    peer.calls[0].finish()
    assert peer.scheduled_flushes == 1
    response = peer.read()
    assert http2.types(response) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]
    assert http2.reset_code(response) is ErrorCode.NO_ERROR
    assert http2.types(peer.send(http2.data_frame(1, http2.grpc_message(b"in transit")))) == []
    assert peer.events == []


def test_finish_after_half_close_does_not_reset_the_stream(http2):
    peer = http2.connect()
    whole = http2.grpc_message(b"!")
    response = peer.send(peer.headers_frame(path="/t/ReplyOnce") + http2.data_frame(1, whole, frames.END_STREAM))
    assert http2.types(response) == ["HEADERS", "DATA", "HEADERS"]
    response = peer.send(peer.headers_frame(3, path="/t/ReplyOnce") + http2.data_frame(3, whole))
    assert http2.types(response) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]


def test_finish_without_a_message_is_trailers_only(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record", flags=frames.END_HEADERS | frames.END_STREAM))
    peer.calls[0].finish(5, "nö: 100 %\n")
    (response,) = peer.read()
    assert peer.decode_fields(response) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "n%C3%B6: 100 %25%0A",
    }
    assert response.ended


def test_messages_after_finish_are_dropped(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.calls[0].finish()
    peer.calls[0].finish(13)
    peer.calls[0].send(b"late")
    assert http2.types(peer.read()) == ["HEADERS", "RST_STREAM"]
    assert peer.statuses == [0]


def test_a_reset_cancels_the_rpc(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    assert peer.send(frames.encode_rst_stream(1, ErrorCode.CANCEL)) == []
    peer.calls[0].send(b"dropped")
    assert peer.read() == []
    assert peer.events == ["cancel"]
    assert peer.statuses == [1]


def test_a_lost_connection_cancels_every_rpc(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(1, path="/t/Record") + peer.headers_frame(3, path="/t/Record"))
    peer.connection.connection_lost()
    assert peer.events == ["cancel", "cancel"]
    assert peer.rpc_stats.open_rpcs == 0


def test_a_cancelled_handler_may_finish_other_rpcs(http2):
    peer = http2.connect()
    peer.send(b"".join(peer.headers_frame(stream, path="/t/FinishOthers") for stream in (1, 3, 5)))
    peer.connection.connection_lost()
    assert peer.events == ["cancel"]
    assert (peer.rpc_stats.open_rpcs, sorted(peer.statuses)) == (0, [0, 0, 1])


def test_the_end_of_an_rpc_is_reported_with_its_start(http2):
    ended = []
    peer = http2.connect()
    peer.rpc_stats._on_rpc_end = lambda *end: ended.append(end)
    started = peer.clock.now()
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.clock.advance(2)
    peer.calls[0].finish(4)
    assert ended == [("/t/Record", 4, started)]


def test_an_exception_in_a_handler_ends_only_its_rpc_with_internal(http2, caplog):
    peer = http2.connect()
    response = peer.send(peer.headers_frame(path="/t/Fail") + http2.data_frame(1, http2.grpc_message(b"x")))
    assert peer.decode_fields(response[0])["grpc-status"] == "13"
    assert peer.events == ["cancel"]
    assert "handler of /t/Fail failed" in caplog.text
    response = peer.send(peer.headers_frame(3) + http2.data_frame(3, http2.grpc_message(b"x")))
    assert http2.types(response) == ["HEADERS", "DATA"]


def test_gzip_messages(http2):
    peer = http2.connect()
    packed = http2.grpc_message(gzip.compress(b"x" * 1000, mtime=0), flag=1)
    plain = http2.grpc_message(b"uncompressed")
    peer.send(peer.headers_frame(path="/t/Record", grpc_encoding="gzip") + http2.data_frame(1, packed[:20]))
    peer.send(http2.data_frame(1, packed[20:] + plain + packed, frames.END_STREAM))
    assert peer.events == [b"x" * 1000, b"uncompressed", b"x" * 1000, "half-close"]


def gzip_bomb() -> bytes:
    return gzip.compress(bytes(5 << 20), mtime=0)


@pytest.mark.parametrize(
    ("encoding", "flag", "content", "status"),
    [
        ("gzip", 1, gzip_bomb(), "8"),
        ("gzip", 1, b"not gzip", "13"),
        ("gzip", 1, gzip.compress(b"x", mtime=0)[:-1], "13"),
        ("gzip", 1, gzip.compress(b"x", mtime=0) * 2, "13"),
        ("gzip", 1, zlib.compress(b"x"), "13"),
        ("gzip", 2, b"x", "13"),
        ("identity", 1, gzip.compress(b"x", mtime=0), "13"),
        ("identity", 0, bytes(5 << 20), "8"),
    ],
)
@pytest.mark.parametrize("cut", [3, 7, 1 << 16])
def test_invalid_messages_end_their_rpc(http2, encoding, flag, content, status, cut):
    peer = http2.connect(max_frame_size=16 << 20, stream_window=16 << 20)
    message = http2.grpc_message(content, flag)
    peer.send(peer.headers_frame(path="/t/Record", grpc_encoding=encoding))
    response = peer.send(http2.data_frame(1, message[:cut])) + peer.send(http2.data_frame(1, message[cut:]))
    assert http2.types(response) == ["HEADERS", "RST_STREAM"]
    assert peer.decode_fields(response[0])["grpc-status"] == status
    assert peer.events == ["cancel"]
    assert not peer.connection.closing


def test_half_close_within_a_message(http2):
    peer = http2.connect()
    response = peer.send(
        peer.headers_frame(path="/t/Record") + http2.data_frame(1, http2.grpc_message(b"cut")[:6], frames.END_STREAM)
    )
    assert peer.decode_fields(response[0])["grpc-status"] == "13"
    assert peer.events == ["cancel"]


def test_trailers_of_the_client_half_close_the_stream(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    trailers = peer.encoder.encode([("x-checksum", "1")])
    peer.send(frames.encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, trailers))
    assert peer.events == ["half-close"]


def test_output_outside_of_input_schedules_one_flush(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.calls[0].send(b"1")
    peer.calls[0].send(b"2")
    assert peer.scheduled_flushes == 1
    assert http2.stream_data(peer.read()) == http2.grpc_message(b"1") + http2.grpc_message(b"2")
    peer.calls[0].send(b"3")
    assert peer.scheduled_flushes == 2
