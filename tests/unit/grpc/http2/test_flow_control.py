"""Windows in both directions, bursts, and what waits."""

from __future__ import annotations

from struct import unpack

from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frames import ErrorCode


def test_the_peers_stream_window_is_honoured(wire):
    peer = wire.fresh()
    peer.hello(window=10)
    answer = peer.send(peer.headers() + wire.data(1, wire.message(b"0123456789"), h2.END_STREAM))
    assert wire.payload(answer) == wire.message(b"0123456789")[:10]
    assert not any(frame.ended for frame in answer)
    answer = peer.send(h2.encode_window_update(1, 4))
    assert [frame.payload for frame in answer] == [b"5678"]
    answer = peer.send(h2.encode_window_update(1, 100))
    assert wire.kinds(answer) == ["DATA", "HEADERS"]
    assert answer[1].ended


def test_a_window_of_nothing_still_lets_headers_and_trailers_through(wire):
    peer = wire.fresh()
    peer.hello(window=0)
    peer.send(peer.headers(path="/t/Hold"))
    peer.calls[0].finish(3)
    assert peer.fields(peer.read()[0])["grpc-status"] == "3"


def test_a_new_initial_window_applies_to_open_streams(wire):
    peer = wire.fresh()
    peer.hello(window=4)
    answer = peer.send(peer.headers() + wire.data(1, wire.message(b"abcdef")))
    assert wire.payload(answer) == wire.message(b"abcdef")[:4]
    # Less than was spent already: the window is negative now, and 3 more octets only bring it to zero.
    assert wire.payload(peer.send(h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: 1}))) == b""
    assert wire.payload(peer.send(h2.encode_window_update(1, 3))) == b""
    assert (
        wire.payload(peer.send(h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: 3})))
        == wire.message(b"abcdef")[4:6]
    )
    assert (
        wire.payload(peer.send(h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: 1000})))
        == wire.message(b"abcdef")[6:]
    )


def test_the_connection_window_is_shared_in_turns(wire):
    peer = wire.fresh()
    peer.hello(window=1 << 20)
    big = bytes(200_000)
    answer = []
    for stream in (1, 3):
        answer += peer.send(peer.headers(stream, path="/t/Hold"))
        peer.calls[-1].send(big)
        peer.calls[-1].finish()
    answer += peer.read()
    assert len(wire.payload(answer, 1)) == 65_535
    answer = peer.send(h2.encode_window_update(0, 262_144))
    assert [len(wire.payload(answer, stream)) for stream in (1, 3)] == [131_072, 131_072]
    answer = peer.send(h2.encode_window_update(0, 1 << 20))
    ended = [frame.stream for frame in answer if frame.ended]
    assert sorted(ended) == [1, 3]


def test_frames_are_as_large_as_the_peer_takes(wire):
    peer = wire.fresh()
    peer.hello(window=1 << 20)
    peer.send(h2.encode_settings({h2.SETTINGS_MAX_FRAME_SIZE: 20_000}) + h2.encode_window_update(0, 1 << 20))
    answer = peer.send(peer.headers() + wire.data(1, wire.message(bytes(45_000))))
    assert [len(frame.payload) for frame in answer if frame.kind == "DATA"] == [20_000, 20_000, 5_005]


def test_small_messages_that_waited_share_frames(wire):
    peer = wire.fresh()
    peer.hello(window=0)
    peer.send(peer.headers(path="/t/Hold"))
    for index in range(10):
        peer.calls[0].send(bytes([index]))
    peer.read()
    answer = peer.send(h2.encode_window_update(1, 1000))
    assert wire.kinds(answer) == ["HEADERS", "DATA"]
    assert answer[1].payload == b"".join(wire.message(bytes([i])) for i in range(10))


def test_a_paused_socket_gets_no_data(wire):
    peer = wire.peer()
    peer.send(peer.headers(path="/t/Hold"))
    peer.server.pause_writing()
    peer.calls[0].send(b"x")
    peer.calls[0].finish()
    assert peer.read() == []
    assert not peer.server.has_data_to_send
    answer = peer.send(h2.encode_frame(h2.PING, 0, 0, b"12345678"))
    assert wire.kinds(answer) == ["PING"]
    peer.server.resume_writing()
    assert wire.kinds(peer.read()) == ["HEADERS", "DATA", "HEADERS", "RST_STREAM"]


def test_a_large_answer_goes_in_bursts(wire):
    peer = wire.fresh(write_burst=100_000)
    peer.hello(window=h2.MAX_WINDOW_SIZE)
    peer.send(h2.encode_window_update(0, 1 << 30) + peer.headers(path="/t/Hold"))
    peer.calls[0].send(bytes(1 << 20))
    first = peer.server.data_to_send()
    assert 100_000 <= len(first) <= 101_000
    assert peer.server.has_data_to_send
    assert peer.server._send_buffer.buffered_bytes == (1 << 20) + 5 - 100_000
    total = len(first)
    while peer.server.has_data_to_send:
        total += len(peer.server.data_to_send())
    assert total >= 1 << 20


def test_windows_for_the_peer_are_refilled(wire):
    peer = wire.peer(stream_window=10_000)
    answer = peer.send(peer.headers(path="/t/Hold") + wire.data(1, wire.message(bytes(4_000))))
    assert answer == []
    (update,) = peer.send(wire.data(1, wire.message(bytes(4_000))))
    assert (update.kind, update.stream, unpack(">I", update.payload)[0]) == ("WINDOW_UPDATE", 1, 8_010)


def test_the_connection_window_is_refilled(wire):
    peer = wire.peer()
    peer.server._receive_window = h2.MAX_WINDOW_SIZE // 2 + 10
    (update,) = peer.send(peer.headers(path="/t/Hold") + wire.data(1, wire.message(bytes(20))))
    assert (update.kind, update.stream) == ("WINDOW_UPDATE", 0)
    assert unpack(">I", update.payload)[0] == h2.MAX_WINDOW_SIZE - (h2.MAX_WINDOW_SIZE // 2 + 10 - 25)


def test_padding_counts_against_the_window(wire):
    peer = wire.peer(stream_window=1_000)
    peer.send(peer.headers(path="/t/Hold"))
    padded = h2.encode_frame(h2.DATA, h2.PADDED, 1, b"\xff" + bytes(255))
    assert peer.send(padded * 1) == []
    (update,) = peer.send(padded)
    assert unpack(">I", update.payload)[0] == 512


def test_no_more_window_for_a_stream_whose_answers_are_not_taken(wire):
    peer = wire.fresh(stream_window=10_000, max_stream_backlog=5_000)
    peer.hello(window=0)
    peer.send(peer.headers())
    for _ in range(2):
        assert "WINDOW_UPDATE" not in wire.kinds(peer.send(wire.data(1, wire.message(bytes(4_000)))))
    assert peer.server._send_buffer.buffered_bytes == 8_010
    answer = peer.send(h2.encode_window_update(1, 100_000))
    assert wire.kinds(answer) == ["HEADERS", "DATA", "WINDOW_UPDATE"]


def test_more_than_the_granted_window_is_a_fault(wire):
    peer = wire.peer(stream_window=1_000, max_stream_backlog=0)
    answer = peer.send(peer.headers(path="/t/Hold") + wire.data(1, bytes(1_001)))
    assert wire.reset(answer) is ErrorCode.FLOW_CONTROL_ERROR
    assert peer.heard == ["lost"]


def test_output_that_nobody_takes_is_bounded(wire):
    peer = wire.fresh(max_connection_backlog=100_000)
    peer.hello(window=0)
    peer.send(peer.headers(1, path="/t/Hold") + peer.headers(3, path="/t/Hold"))
    peer.calls[0].send(bytes(60_000))
    peer.calls[1].send(bytes(60_000))
    answer = peer.read()
    assert wire.reset(answer, 3) is ErrorCode.ENHANCE_YOUR_CALM
    assert peer.heard == ["lost"]
    assert peer.server._send_buffer.buffered_bytes == 60_005


def test_incomplete_messages_are_bounded(wire):
    peer = wire.peer(max_connection_backlog=20_000)
    peer.send(peer.headers(1, path="/t/Hold") + peer.headers(3, path="/t/Hold"))
    begun = wire.message(bytes(50_000))
    for stream in (1, 3):
        peer.send(wire.data(stream, begun[:9_000]))
    answer = peer.send(wire.data(3, begun[9_000:18_000]))
    assert peer.fields(answer[0])["grpc-status"] == "8"
    assert peer.server._send_buffer.buffered_bytes == 9_000


def test_an_ended_stream_leaves_nothing_behind(wire):
    peer = wire.fresh()
    peer.hello(window=0)
    peer.send(peer.headers() + wire.data(1, wire.message(bytes(5_000)) + b"\0\0"))
    assert peer.server._send_buffer.buffered_bytes == 5_007
    peer.send(h2.encode_rst_stream(1, ErrorCode.CANCEL))
    assert (peer.server._send_buffer.buffered_bytes, peer.server.streams) == (0, {})
    assert wire.kinds(peer.send(h2.encode_window_update(0, 5) + h2.encode_window_update(1, 5))) == []
