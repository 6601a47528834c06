"""Flow control in both directions, and limits of buffered data."""

from __future__ import annotations

from struct import unpack

from epp.grpc.http2 import frames
from epp.grpc.http2.frames import ErrorCode


def test_output_respects_the_stream_window_of_the_peer(http2):
    peer = http2.create_peer()
    peer.send_preface(window=10)
    response = peer.send(
        peer.headers_frame() + http2.data_frame(1, http2.grpc_message(b"0123456789"), frames.END_STREAM)
    )
    assert http2.stream_data(response) == http2.grpc_message(b"0123456789")[:10]
    assert not any(frame.ended for frame in response)
    response = peer.send(frames.encode_window_update(1, 4))
    assert [frame.payload for frame in response] == [b"5678"]
    response = peer.send(frames.encode_window_update(1, 100))
    assert http2.types(response) == ["DATA", "HEADERS"]
    assert response[1].ended


def test_headers_and_trailers_need_no_window(http2):
    peer = http2.create_peer()
    peer.send_preface(window=0)
    peer.send(peer.headers_frame(path="/t/Record"))
    peer.calls[0].finish(3)
    assert peer.decode_fields(peer.read()[0])["grpc-status"] == "3"


def test_a_changed_initial_window_applies_to_open_streams(http2):
    peer = http2.create_peer()
    peer.send_preface(window=4)
    response = peer.send(peer.headers_frame() + http2.data_frame(1, http2.grpc_message(b"abcdef")))
    assert http2.stream_data(response) == http2.grpc_message(b"abcdef")[:4]
    # Below what was sent already: the window is negative now, and 3 more octets only bring it to zero.
    assert http2.stream_data(peer.send(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1}))) == b""
    assert http2.stream_data(peer.send(frames.encode_window_update(1, 3))) == b""
    assert (
        http2.stream_data(peer.send(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 3})))
        == http2.grpc_message(b"abcdef")[4:6]
    )
    assert (
        http2.stream_data(peer.send(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1000})))
        == http2.grpc_message(b"abcdef")[6:]
    )


def test_frames_are_as_large_as_the_max_frame_size_of_the_peer(http2):
    peer = http2.create_peer()
    peer.send_preface(window=1 << 20)
    peer.send(
        frames.encode_settings({frames.SETTINGS_MAX_FRAME_SIZE: 20_000}) + frames.encode_window_update(0, 1 << 20)
    )
    response = peer.send(peer.headers_frame() + http2.data_frame(1, http2.grpc_message(bytes(45_000))))
    assert [len(frame.payload) for frame in response if frame.type == "DATA"] == [20_000, 20_000, 5_005]


def test_pending_small_messages_share_a_frame(http2):
    peer = http2.create_peer()
    peer.send_preface(window=0)
    peer.send(peer.headers_frame(path="/t/Record"))
    for index in range(10):
        peer.calls[0].send(bytes([index]))
    peer.read()
    response = peer.send(frames.encode_window_update(1, 1000))
    assert http2.types(response) == ["HEADERS", "DATA"]
    assert response[1].payload == b"".join(http2.grpc_message(bytes([i])) for i in range(10))


def test_the_stream_window_of_the_server_is_replenished(http2):
    peer = http2.connect(stream_window=10_000)
    response = peer.send(peer.headers_frame(path="/t/Record") + http2.data_frame(1, http2.grpc_message(bytes(4_000))))
    assert response == []
    (update,) = peer.send(http2.data_frame(1, http2.grpc_message(bytes(4_000))))
    assert (update.type, update.stream, unpack(">I", update.payload)[0]) == ("WINDOW_UPDATE", 1, 8_010)


def test_the_connection_window_of_the_server_is_replenished(http2):
    peer = http2.connect()
    peer.connection._receive_window = frames.MAX_WINDOW_SIZE // 2 + 10
    (update,) = peer.send(peer.headers_frame(path="/t/Record") + http2.data_frame(1, http2.grpc_message(bytes(20))))
    assert (update.type, update.stream) == ("WINDOW_UPDATE", 0)
    assert unpack(">I", update.payload)[0] == frames.MAX_WINDOW_SIZE - (frames.MAX_WINDOW_SIZE // 2 + 10 - 25)


def test_padding_counts_in_the_window(http2):
    peer = http2.connect(stream_window=1_000)
    peer.send(peer.headers_frame(path="/t/Record"))
    padded = frames.encode_frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
    assert peer.send(padded * 1) == []
    (update,) = peer.send(padded)
    assert unpack(">I", update.payload)[0] == 512


def test_the_window_is_not_replenished_while_output_is_unread(http2):
    peer = http2.create_peer(stream_window=10_000, max_stream_backlog=5_000)
    peer.send_preface(window=0)
    peer.send(peer.headers_frame())
    for _ in range(2):
        assert "WINDOW_UPDATE" not in http2.types(peer.send(http2.data_frame(1, http2.grpc_message(bytes(4_000)))))
    assert peer.connection._send_buffer.buffered_bytes == 8_010
    response = peer.send(frames.encode_window_update(1, 100_000))
    assert http2.types(response) == ["HEADERS", "DATA", "WINDOW_UPDATE"]


def test_data_above_the_window_is_a_flow_control_error(http2):
    peer = http2.connect(stream_window=1_000, max_stream_backlog=0)
    response = peer.send(peer.headers_frame(path="/t/Record") + http2.data_frame(1, bytes(1_001)))
    assert http2.reset_code(response) is ErrorCode.FLOW_CONTROL_ERROR
    assert peer.events == ["cancel"]


def test_unread_output_is_bounded(http2):
    peer = http2.create_peer(max_connection_backlog=100_000)
    peer.send_preface(window=0)
    peer.send(peer.headers_frame(1, path="/t/Record") + peer.headers_frame(3, path="/t/Record"))
    peer.calls[0].send(bytes(60_000))
    peer.calls[1].send(bytes(60_000))
    response = peer.read()
    assert http2.reset_code(response, 3) is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.events == ["cancel"]
    assert peer.connection._send_buffer.buffered_bytes == 60_005


def test_incomplete_request_messages_are_bounded(http2):
    peer = http2.connect(max_connection_backlog=20_000)
    peer.send(peer.headers_frame(1, path="/t/Record") + peer.headers_frame(3, path="/t/Record"))
    message = http2.grpc_message(bytes(50_000))
    for stream in (1, 3):
        peer.send(http2.data_frame(stream, message[:9_000]))
    response = peer.send(http2.data_frame(3, message[9_000:18_000]))
    assert peer.decode_fields(response[0])["grpc-status"] == "8"
    assert peer.connection._send_buffer.buffered_bytes == 9_000


def test_a_closed_stream_leaves_nothing_buffered(http2):
    peer = http2.create_peer()
    peer.send_preface(window=0)
    peer.send(peer.headers_frame() + http2.data_frame(1, http2.grpc_message(bytes(5_000)) + b"\0\0"))
    assert peer.connection._send_buffer.buffered_bytes == 5_007
    peer.send(frames.encode_rst_stream(1, ErrorCode.CANCEL))
    assert (peer.connection._send_buffer.buffered_bytes, peer.connection.streams) == (0, {})
    assert http2.types(peer.send(frames.encode_window_update(0, 5) + frames.encode_window_update(1, 5))) == []
