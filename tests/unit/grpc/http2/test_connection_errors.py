"""Protocol violations of the peer (RFC 9113), abuse limits, and the end of connections."""

from __future__ import annotations

import pytest

from epp.grpc.http2 import frames
from epp.grpc.http2.frames import ErrorCode

PING = frames.encode_frame(frames.PING, 0, 0, b"12345678")
RECORD = {"path": "/t/Record"}
CONNECTION_ERRORS = {
    "frame larger than allowed": (frames.FRAME_HEADER.pack((1 << 17) << 8, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (frames.encode_frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (frames.encode_frame(frames.DATA, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on a stream of the server": (frames.encode_frame(frames.DATA, 0, 2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padding beyond the frame": (
        frames.encode_frame(frames.DATA, frames.PADDED, 1, b"\x05abcd"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padded data without padding": (frames.encode_frame(frames.DATA, frames.PADDED, 1), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 0, b"\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers on an even stream": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 4, b"\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers padded beyond the frame": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 3, b"\x09\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "headers that depend on themselves": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITY_FLAG, 3, b"\0\0\0\x03\0\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padded headers without padding": (
        frames.encode_frame(frames.HEADERS, frames.PADDED, 3),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "headers that are not HPACK": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 3, b"\xff\xff\xff"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "headers with an index out of the table": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 3, b"\x80"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "header block interrupted by another frame": (
        frames.encode_frame(frames.HEADERS, 0, 3, b"\x83") + PING,
        ErrorCode.PROTOCOL_ERROR,
    ),
    "header block interrupted by data": (
        frames.encode_frame(frames.HEADERS, 0, 3, b"\x83") + frames.encode_frame(frames.DATA, 0, 1, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "header block continued on another stream": (
        frames.encode_frame(frames.HEADERS, 0, 3, b"\x83") + frames.encode_frame(frames.CONTINUATION, 4, 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "continuation without headers": (
        frames.encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "too many continuations": (
        frames.encode_frame(frames.HEADERS, 0, 3) + frames.encode_frame(frames.CONTINUATION, 0, 3) * 40,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "too large a header block": (
        frames.encode_frame(frames.HEADERS, 0, 3) + frames.encode_frame(frames.CONTINUATION, 0, 3, bytes(60_000)) * 5,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "reset on stream 0": (frames.encode_rst_stream(0, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "reset of an idle stream": (frames.encode_rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "reset of a wrong size": (frames.encode_frame(frames.RST_STREAM, 0, 1, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (frames.encode_frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings of a wrong size": (frames.encode_frame(frames.SETTINGS, 0, 0, b"\0"), ErrorCode.FRAME_SIZE_ERROR),
    "settings acknowledgement with a payload": (
        frames.encode_frame(frames.SETTINGS, frames.ACK, 0, bytes(6)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "enable push other than 0 and 1": (
        frames.encode_settings({frames.SETTINGS_ENABLE_PUSH: 2}),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "initial window above 31 bits": (
        frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "max frame size too small": (
        frames.encode_settings({frames.SETTINGS_MAX_FRAME_SIZE: 16_383}),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "max frame size too large": (
        frames.encode_settings({frames.SETTINGS_MAX_FRAME_SIZE: 1 << 24}),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "push promise": (
        frames.encode_frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\x02"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "ping on a stream": (frames.encode_frame(frames.PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "ping of a wrong size": (frames.encode_frame(frames.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "goaway on a stream": (frames.encode_frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "window of a wrong size": (frames.encode_frame(frames.WINDOW_UPDATE, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "window of a wrong size on a stream": (
        frames.encode_frame(frames.WINDOW_UPDATE, 0, 1, b"1"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "window increment of 0": (frames.encode_window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window that overflows": (frames.encode_window_update(0, frames.MAX_WINDOW_SIZE), ErrorCode.FLOW_CONTROL_ERROR),
    "window of an idle stream": (frames.encode_window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "stream window that overflows by settings": (
        frames.encode_window_update(1, frames.MAX_WINDOW_SIZE - 65_535)
        + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 65_536}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "priority on stream 0": (frames.encode_frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("violation", CONNECTION_ERRORS)
def test_connection_errors(http2, violation):
    violating_frames, code = CONNECTION_ERRORS[violation]
    peer = http2.connect()
    peer.send(peer.headers_frame(**RECORD))
    assert http2.goaway_code(peer.send(violating_frames + PING)) is code
    assert peer.connection.closing
    assert peer.events == ["cancel"]
    assert peer.send(PING) == []


STREAM_ERRORS = {
    "window increment of 0": (frames.encode_window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "window that overflows": (frames.encode_window_update(1, frames.MAX_WINDOW_SIZE), ErrorCode.FLOW_CONTROL_ERROR),
    "priority of a wrong size": (frames.encode_frame(frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "priority on itself": (frames.encode_frame(frames.PRIORITY, 0, 1, b"\0\0\0\x01\0"), ErrorCode.PROTOCOL_ERROR),
    "trailers that do not end": (
        frames.encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x83"),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("violation", STREAM_ERRORS)
def test_stream_errors(http2, violation):
    violating_frames, code = STREAM_ERRORS[violation]
    peer = http2.connect()
    peer.send(peer.headers_frame(**RECORD))
    response = peer.send(violating_frames + PING)
    assert http2.reset_code(response) is code
    assert response[-1].type == "PING"
    assert peer.events == ["cancel"]


@pytest.mark.parametrize(
    "late", [frames.encode_frame(frames.DATA, 0, 1, b"x"), frames.encode_frame(frames.HEADERS, 5, 1, b"\x83")]
)
def test_frames_on_a_half_closed_stream(http2, late):
    peer = http2.connect()
    peer.send(peer.headers_frame(flags=frames.END_HEADERS | frames.END_STREAM, **RECORD))
    assert http2.reset_code(peer.send(late)) is ErrorCode.STREAM_CLOSED
    assert peer.events == ["half-close", "cancel"]


@pytest.mark.parametrize(
    "late", [frames.encode_frame(frames.DATA, 0, 1, b"x"), frames.encode_frame(frames.HEADERS, 5, 1, b"\x83")]
)
def test_frames_on_a_closed_stream(http2, late):
    peer = http2.connect()
    peer.send(peer.headers_frame(flags=frames.END_HEADERS | frames.END_STREAM))
    assert http2.goaway_code(peer.send(late)) is ErrorCode.STREAM_CLOSED


def test_trailers_on_a_stream_that_we_ended_only_update_the_hpack_state(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(**RECORD))
    peer.calls[0].finish()
    peer.read()
    trailers = peer.encoder.encode([("x-new-entry", "1")])
    assert peer.send(frames.encode_frame(frames.HEADERS, 5, 1, trailers)) == []
    peer.send(peer.headers_frame(3, x_new_entry="1", **RECORD))
    assert len(peer.calls) == 2


def test_a_lower_stream_id_is_an_error(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(5, **RECORD))
    assert http2.goaway_code(peer.send(peer.headers_frame(3, **RECORD))) is ErrorCode.STREAM_CLOSED


def test_streams_above_the_limit_are_refused(http2):
    peer = http2.connect(max_concurrent_streams=2)
    response = peer.send(b"".join(peer.headers_frame(stream, **RECORD) for stream in (1, 3, 5)))
    assert http2.types(response) == ["RST_STREAM"]
    assert http2.reset_code(response, 5) is ErrorCode.REFUSED_STREAM
    peer.send(frames.encode_rst_stream(1, ErrorCode.CANCEL))
    assert peer.send(peer.headers_frame(7, **RECORD)) == []


def rapid_resets(peer, count: int) -> bytes:
    streams = range(1, 2 * count, 2)
    return b"".join(
        peer.headers_frame(stream, **RECORD) + frames.encode_rst_stream(stream, ErrorCode.CANCEL) for stream in streams
    )


def test_rapid_resets_end_the_connection(http2):
    peer = http2.connect(reset_burst=100)
    assert peer.send(rapid_resets(peer, 100)) == []
    assert (
        http2.goaway_code(
            peer.send(peer.headers_frame(1001, **RECORD) + frames.encode_rst_stream(1001, ErrorCode.CANCEL))
        )
        is ErrorCode.ENHANCE_YOUR_CALM
    )


def test_slow_resets_do_not_end_the_connection(http2):
    peer = http2.connect(reset_burst=100, resets_per_second=10)
    peer.send(rapid_resets(peer, 100))
    peer.clock.advance(1)
    for stream in range(1001, 1021, 2):
        assert (
            peer.send(peer.headers_frame(stream, **RECORD) + frames.encode_rst_stream(stream, ErrorCode.CANCEL)) == []
        )


def test_resets_after_a_response_are_not_limited(http2):
    peer = http2.connect(reset_burst=10)
    for stream in range(1, 201, 2):
        peer.send(peer.headers_frame(stream) + http2.data_frame(stream, http2.grpc_message(b"x")))
        assert peer.send(frames.encode_rst_stream(stream, ErrorCode.NO_ERROR)) == []


def test_resets_provoked_by_the_peer_are_limited(http2):
    peer = http2.connect(reset_burst=100)
    attack = b"".join(
        peer.headers_frame(stream, **RECORD) + frames.encode_window_update(stream, 0) for stream in range(1, 301, 2)
    )
    assert http2.goaway_code(peer.send(attack)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_empty_data_frames(http2):
    peer = http2.connect(reset_burst=100)
    peer.send(peer.headers_frame(**RECORD))
    assert http2.goaway_code(peer.send(http2.data_frame(1, b"") * 200)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_initial_window_changes(http2):
    peer = http2.connect(reset_burst=100)
    flood = b"".join(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: index % 2}) for index in range(200))
    assert http2.goaway_code(peer.send(flood)) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_flood_of_pings_whose_acknowledgements_are_not_read(http2):
    peer = http2.connect(max_control_frames=100)
    assert len(peer.send(PING * 200)) == 200
    peer.connection.pause_writing()
    assert http2.goaway_code(peer.send(PING * 200)) is ErrorCode.ENHANCE_YOUR_CALM


def test_unknown_frames_and_settings_are_ignored(http2):
    peer = http2.connect()
    unknown = (
        frames.encode_frame(0xF0, 0xFF, 0, b"?")
        + frames.encode_frame(0x10, 0, 1, b"?")
        + frames.encode_settings({0xFFFF: 7})
    )
    response = peer.send(peer.headers_frame(**RECORD) + unknown + frames.encode_frame(frames.PRIORITY, 0, 9, bytes(5)))
    assert http2.types(response) == ["SETTINGS"]
    assert not peer.connection.closing


def test_drain_finishes_open_streams(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(1))
    peer.connection.drain()
    assert peer.scheduled_flushes == 1
    goaway, ping = peer.read()
    assert goaway.payload[:8] == b"\x7f\xff\xff\xff\0\0\0\0"
    # Opened before the client received the GOAWAY.
    assert peer.send(peer.headers_frame(3)) == []
    (goaway,) = peer.send(frames.encode_frame(frames.PING, frames.ACK, 0, ping.payload))
    assert goaway.payload[:8] == b"\0\0\0\x03\0\0\0\0"
    assert http2.reset_code(peer.send(peer.headers_frame(5)), 5) is ErrorCode.REFUSED_STREAM
    response = peer.send(http2.data_frame(1, http2.grpc_message(b"x"), frames.END_STREAM))
    assert http2.types(response) == ["HEADERS", "DATA", "HEADERS"]
    assert not peer.connection.closing
    peer.send(http2.data_frame(3, b"", frames.END_STREAM))
    assert peer.connection.closing


def test_drain_of_an_idle_connection_closes_it_after_the_ping_is_acknowledged(http2):
    peer = http2.connect()
    peer.connection.drain()
    _, ping = peer.read()
    assert not peer.connection.closing
    peer.send(frames.encode_frame(frames.PING, frames.ACK, 0, ping.payload))
    assert peer.connection.closing


def test_close_cancels_rpcs_and_sends_goaway(http2):
    peer = http2.connect()
    peer.send(peer.headers_frame(**RECORD))
    peer.connection.close()
    assert http2.goaway_code(peer.read()) is ErrorCode.NO_ERROR
    assert peer.events == ["cancel"]
