"""Peers that break the protocol, and what they are told (RFC 9113)."""

from __future__ import annotations

import hpack
import pytest

from epp.grpc.http2 import frames as h2
from epp.grpc.http2.frames import ErrorCode

PING = h2.encode_frame(h2.PING, 0, 0, b"12345678")


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nhost: picker\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        h2.CONNECTION_PREFACE + PING,
        h2.CONNECTION_PREFACE + h2.encode_frame(h2.SETTINGS, h2.ACK, 0),
        h2.CONNECTION_PREFACE[:-1] + b"x",
    ],
)
def test_greetings_that_are_none(wire, greeting):
    peer = wire.fresh()
    assert wire.goaway(peer.send(greeting)) is ErrorCode.PROTOCOL_ERROR
    assert peer.server.closing


HOLD = {"path": "/t/Hold"}
CONNECTION_FAULTS = {
    "frame larger than allowed": (h2.FRAME_HEADER.pack((1 << 17) << 8, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (h2.encode_frame(h2.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (h2.encode_frame(h2.DATA, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on a stream of ours": (h2.encode_frame(h2.DATA, 0, 2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padding beyond the frame": (h2.encode_frame(h2.DATA, h2.PADDED, 1, b"\x05abcd"), ErrorCode.PROTOCOL_ERROR),
    "padded data without padding": (h2.encode_frame(h2.DATA, h2.PADDED, 1), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 0, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "headers on an even stream": (h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 4, b"\x83"), ErrorCode.PROTOCOL_ERROR),
    "headers padded beyond the frame": (
        h2.encode_frame(h2.HEADERS, h2.END_HEADERS | h2.PADDED, 3, b"\x09\x83"), ErrorCode.PROTOCOL_ERROR,
    ),
    "headers that depend on themselves": (
        h2.encode_frame(h2.HEADERS, h2.END_HEADERS | h2.PRIORITY_FLAG, 3, b"\0\0\0\x03\0\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padded headers without padding": (h2.encode_frame(h2.HEADERS, h2.PADDED, 3), ErrorCode.FRAME_SIZE_ERROR),
    "headers that are no HPACK": (
        h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 3, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR,
    ),
    "headers that name no entry": (
        h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 3, b"\x80"), ErrorCode.COMPRESSION_ERROR,
    ),
    "block interrupted by another frame": (h2.encode_frame(h2.HEADERS, 0, 3, b"\x83") + PING, ErrorCode.PROTOCOL_ERROR),
    "block interrupted by data": (
        h2.encode_frame(h2.HEADERS, 0, 3, b"\x83") + h2.encode_frame(h2.DATA, 0, 1, b""), ErrorCode.PROTOCOL_ERROR,
    ),
    "block continued on another stream": (
        h2.encode_frame(h2.HEADERS, 0, 3, b"\x83") + h2.encode_frame(h2.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR,
    ),
    "continuation of nothing": (h2.encode_frame(h2.CONTINUATION, h2.END_HEADERS, 1), ErrorCode.PROTOCOL_ERROR),
    "a block of endless fragments": (
        h2.encode_frame(h2.HEADERS, 0, 3) + h2.encode_frame(h2.CONTINUATION, 0, 3) * 40, ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a block of endless octets": (
        h2.encode_frame(h2.HEADERS, 0, 3) + h2.encode_frame(h2.CONTINUATION, 0, 3, bytes(60_000)) * 5,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "reset on stream 0": (h2.encode_rst_stream(0, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "reset of an idle stream": (h2.encode_rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "reset of a wrong size": (h2.encode_frame(h2.RST_STREAM, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (h2.encode_frame(h2.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings of a wrong size": (h2.encode_frame(h2.SETTINGS, 0, 0, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "settings acknowledged with more": (h2.encode_frame(h2.SETTINGS, h2.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "push neither on nor off": (h2.encode_settings({h2.SETTINGS_ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "a window beyond 31 bits": (
        h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "frames too small": (h2.encode_settings({h2.SETTINGS_MAX_FRAME_SIZE: 16_383}), ErrorCode.PROTOCOL_ERROR),
    "frames too large": (h2.encode_settings({h2.SETTINGS_MAX_FRAME_SIZE: 1 << 24}), ErrorCode.PROTOCOL_ERROR),
    "push": (h2.encode_frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\x02"), ErrorCode.PROTOCOL_ERROR),
    "ping on a stream": (h2.encode_frame(h2.PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "ping of a wrong size": (h2.encode_frame(h2.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "goaway on a stream": (h2.encode_frame(h2.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "window of a wrong size": (h2.encode_frame(h2.WINDOW_UPDATE, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "window of a wrong size on a stream": (h2.encode_frame(h2.WINDOW_UPDATE, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "window of nothing": (h2.encode_window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window that overflows": (h2.encode_window_update(0, h2.MAX_WINDOW_SIZE), ErrorCode.FLOW_CONTROL_ERROR),
    "window of an idle stream": (h2.encode_window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "open window that overflows": (
        h2.encode_window_update(1, h2.MAX_WINDOW_SIZE - 65_535)
        + h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: 65_536}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "priority on stream 0": (h2.encode_frame(h2.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("fault", CONNECTION_FAULTS)
def test_faults_that_end_the_connection(wire, fault):
    frames, code = CONNECTION_FAULTS[fault]
    peer = wire.peer()
    peer.send(peer.headers(**HOLD))
    assert wire.goaway(peer.send(frames + PING)) is code
    assert peer.server.closing
    assert peer.heard == ["lost"]
    assert peer.send(PING) == []


STREAM_FAULTS = {
    "window of nothing": (h2.encode_window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "window that overflows": (h2.encode_window_update(1, h2.MAX_WINDOW_SIZE), ErrorCode.FLOW_CONTROL_ERROR),
    "priority of a wrong size": (h2.encode_frame(h2.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "priority on itself": (h2.encode_frame(h2.PRIORITY, 0, 1, b"\0\0\0\x01\0"), ErrorCode.PROTOCOL_ERROR),
    "trailers that do not end": (h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 1, b"\x83"), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_faults_that_end_the_stream(wire, fault):
    frames, code = STREAM_FAULTS[fault]
    peer = wire.peer()
    peer.send(peer.headers(**HOLD))
    answer = peer.send(frames + PING)
    assert wire.reset(answer) is code
    assert answer[-1].kind == "PING"
    assert peer.heard == ["lost"]


@pytest.mark.parametrize("late", [h2.encode_frame(h2.DATA, 0, 1, b"x"), h2.encode_frame(h2.HEADERS, 5, 1, b"\x83")])
def test_more_after_the_end(wire, late):
    peer = wire.peer()
    peer.send(peer.headers(flags=h2.END_HEADERS | h2.END_STREAM, **HOLD))
    assert wire.reset(peer.send(late)) is ErrorCode.STREAM_CLOSED
    assert peer.heard == ["half-closed", "lost"]


@pytest.mark.parametrize("late", [h2.encode_frame(h2.DATA, 0, 1, b"x"), h2.encode_frame(h2.HEADERS, 5, 1, b"\x83")])
def test_more_after_both_ends(wire, late):
    peer = wire.peer()
    peer.send(peer.headers(flags=h2.END_HEADERS | h2.END_STREAM))
    assert wire.goaway(peer.send(late)) is ErrorCode.STREAM_CLOSED


def test_trailers_that_crossed_our_end_are_read_for_hpack_only(wire):
    peer = wire.peer()
    peer.send(peer.headers(**HOLD))
    peer.calls[0].finish()
    peer.read()
    trailers = peer.encoder.encode([("x-new-entry", "1")])
    assert peer.send(h2.encode_frame(h2.HEADERS, 5, 1, trailers)) == []
    peer.send(peer.headers(3, x_new_entry="1", **HOLD))
    assert len(peer.calls) == 2


def test_a_stream_id_cannot_be_used_twice(wire):
    peer = wire.peer()
    peer.send(peer.headers(5, **HOLD))
    assert wire.goaway(peer.send(peer.headers(3, **HOLD))) is ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize(
    "fields",
    [
        {"drop": "path"},
        {"drop": "method"},
        {"drop": "scheme"},
        {"path": ""},
        {"te": "gzip"},
        {"connection": "close"},
        {"transfer_encoding": "chunked"},
        {":status": "200"},
        {":path": "/t/Hold"},
    ],
)
def test_malformed_requests(wire, fields):
    peer = wire.peer()
    assert wire.reset(peer.send(peer.headers(**fields))) is ErrorCode.PROTOCOL_ERROR
    assert peer.calls == []


def test_upper_case_names_are_malformed(wire):
    peer = wire.peer()
    block = peer.block() + b"\0\x01A\x01b"
    assert wire.reset(peer.send(h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 1, block))) is ErrorCode.PROTOCOL_ERROR


def test_headers_above_the_limit_are_refused_and_the_connection_lives(wire):
    peer = wire.peer(max_header_list_size=2_000)
    answer = peer.send(peer.headers(x_long="a" * 2_000))
    assert peer.fields(answer[0]) == {":status": "431"}
    assert wire.kinds(peer.send(peer.headers(3) + wire.data(3, wire.message(b"")))) == ["HEADERS", "DATA"]


def test_a_header_bomb_ends_the_connection(wire):
    peer = wire.peer(max_header_list_size=2_000)
    peer.send(peer.headers(x_long="a" * 1_000))
    encoder = hpack.Encoder()
    block = encoder.encode([("x-bomb", "a" * 1_000)])
    bomb = block + encoder.encode([("x-bomb", "a" * 1_000)]) * 100
    assert wire.goaway(peer.send(h2.encode_frame(h2.HEADERS, h2.END_HEADERS, 3, bomb))) is ErrorCode.ENHANCE_YOUR_CALM


def test_more_streams_than_allowed_are_refused(wire):
    peer = wire.peer(max_concurrent_streams=2)
    answer = peer.send(b"".join(peer.headers(stream, **HOLD) for stream in (1, 3, 5)))
    assert wire.kinds(answer) == ["RST_STREAM"]
    assert wire.reset(answer, 5) is ErrorCode.REFUSED_STREAM
    peer.send(h2.encode_rst_stream(1, ErrorCode.CANCEL))
    assert peer.send(peer.headers(7, **HOLD)) == []


def rapid_resets(peer, count: int) -> bytes:
    streams = range(1, 2 * count, 2)
    return b"".join(peer.headers(stream, **HOLD) + h2.encode_rst_stream(stream, ErrorCode.CANCEL) for stream in streams)


def test_rapid_resets_end_the_connection(wire):
    peer = wire.peer(reset_burst=100)
    assert peer.send(rapid_resets(peer, 100)) == []
    assert (
        wire.goaway(peer.send(peer.headers(1001, **HOLD) + h2.encode_rst_stream(1001, ErrorCode.CANCEL)))
        is ErrorCode.ENHANCE_YOUR_CALM
    )


def test_resets_at_a_slow_pace_do_not(wire):
    peer = wire.peer(reset_burst=100, resets_per_second=10)
    peer.send(rapid_resets(peer, 100))
    peer.clock.advance(1)
    for stream in range(1001, 1021, 2):
        assert peer.send(peer.headers(stream, **HOLD) + h2.encode_rst_stream(stream, ErrorCode.CANCEL)) == []


def test_resets_after_an_answer_are_how_envoy_says_goodbye(wire):
    peer = wire.peer(reset_burst=10)
    for stream in range(1, 201, 2):
        peer.send(peer.headers(stream) + wire.data(stream, wire.message(b"x")))
        assert peer.send(h2.encode_rst_stream(stream, ErrorCode.NO_ERROR)) == []


def test_resets_that_the_peer_provokes_count_too(wire):
    peer = wire.peer(reset_burst=100)
    attack = b"".join(peer.headers(stream, **HOLD) + h2.encode_window_update(stream, 0) for stream in range(1, 301, 2))
    assert wire.goaway(peer.send(attack)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_empty_data(wire):
    peer = wire.peer(reset_burst=100)
    peer.send(peer.headers(**HOLD))
    assert wire.goaway(peer.send(wire.data(1, b"") * 200)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_window_sizes(wire):
    peer = wire.peer(reset_burst=100)
    flood = b"".join(h2.encode_settings({h2.SETTINGS_INITIAL_WINDOW_SIZE: index % 2}) for index in range(200))
    assert wire.goaway(peer.send(flood)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_pings_that_nobody_reads(wire):
    peer = wire.peer(max_control_frames=100)
    assert len(peer.send(PING * 200)) == 200
    peer.server.pause_writing()
    assert wire.goaway(peer.send(PING * 200)) is ErrorCode.ENHANCE_YOUR_CALM


def test_unknown_frames_and_settings_are_ignored(wire):
    peer = wire.peer()
    unknown = h2.encode_frame(0xF0, 0xFF, 0, b"?") + h2.encode_frame(0x10, 0, 1, b"?") + h2.encode_settings({0xFFFF: 7})
    answer = peer.send(peer.headers(**HOLD) + unknown + h2.encode_frame(h2.PRIORITY, 0, 9, bytes(5)))
    assert wire.kinds(answer) == ["SETTINGS"]
    assert not peer.server.closing


def test_draining_lets_open_streams_go_on(wire):
    peer = wire.peer()
    peer.send(peer.headers(1))
    peer.server.drain()
    assert peer.wakes == 1
    goaway, ping = peer.read()
    assert goaway.payload[:8] == b"\x7f\xff\xff\xff\0\0\0\0"
    # This one was on its way when the client heard of it.
    assert peer.send(peer.headers(3)) == []
    (goaway,) = peer.send(h2.encode_frame(h2.PING, h2.ACK, 0, ping.payload))
    assert goaway.payload[:8] == b"\0\0\0\x03\0\0\0\0"
    assert wire.reset(peer.send(peer.headers(5)), 5) is ErrorCode.REFUSED_STREAM
    answer = peer.send(wire.data(1, wire.message(b"x"), h2.END_STREAM))
    assert wire.kinds(answer) == ["HEADERS", "DATA", "HEADERS"]
    assert not peer.server.closing
    peer.send(wire.data(3, b"", h2.END_STREAM))
    assert peer.server.closing


def test_draining_an_idle_connection_closes_it_when_the_peer_knows(wire):
    peer = wire.peer()
    peer.server.drain()
    _, ping = peer.read()
    assert not peer.server.closing
    peer.send(h2.encode_frame(h2.PING, h2.ACK, 0, ping.payload))
    assert peer.server.closing


def test_closing_tells_handlers_and_the_peer(wire):
    peer = wire.peer()
    peer.send(peer.headers(**HOLD))
    peer.server.close()
    assert wire.goaway(peer.read()) is ErrorCode.NO_ERROR
    assert peer.heard == ["lost"]
