"""Fuzz target: the HTTP/2 connection. For any input it sends whole frames, keeps its limits and leaks no stream."""

from __future__ import annotations

import gzip

import hpack

from epp.clock import ManualClock
from epp.grpc.http2 import frames
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import ServerCall
from epp.grpc.rpc_stats import RpcStats

LIMITS = TransportLimits(
    max_concurrent_streams=8,
    max_message_size=10_000,
    max_header_list_size=1_000,
    stream_window=5_000,
    max_stream_backlog=500,
    max_connection_backlog=20_000,
    reset_burst=50,
)
SENT_FRAME_TYPES = frozenset(
    (frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.SETTINGS, frames.PING, frames.GOAWAY, frames.WINDOW_UPDATE)
)


class Echo:
    """An RPC that sends messages back, and checks that its connection keeps the contract of `RpcHandler`."""

    def __init__(self, call: ServerCall) -> None:
        self.call = call
        self.ended = False

    def on_message(self, data: bytes) -> None:
        assert not self.ended
        assert len(data) <= LIMITS.max_message_size
        self.call.send(data)
        if data[:1] == b"!":
            self.ended = True
            self.call.finish(3, "requested")

    def on_half_close(self) -> None:
        assert not self.ended
        self.ended = True
        self.call.finish()

    def on_cancel(self) -> None:
        assert not self.ended
        self.ended = True


def check(data: bytes) -> None:
    """Runs one input. The first octet determines the size of the reads, the others are what the peer sends."""
    flushes: list[int] = []
    rpc_stats = RpcStats()
    connection = Connection({"/t/Echo": Echo}, ManualClock(), LIMITS, rpc_stats, lambda: flushes.append(1))
    step = data[0] * 4 + 1 if data else 1
    written = connection.data_to_send()
    for start in range(1, len(data), step):
        connection.receive_data(data[start : start + step])
        written = drop_whole_frames(written + connection.data_to_send())
        assert rpc_stats.open_rpcs == len(connection.streams) <= LIMITS.max_concurrent_streams
        assert (
            0 <= connection._send_buffer.buffered_bytes <= LIMITS.max_connection_backlog + LIMITS.max_message_size + 5
        )
        assert connection._send_buffer.send_window >= 0
    connection.connection_lost()
    assert rpc_stats.open_rpcs == connection._send_buffer.buffered_bytes == 0
    assert not flushes
    assert not written


def drop_whole_frames(data: bytes) -> bytes:
    """Checks the frames of `data` and removes them; fails on a frame that is cut off."""
    while data:
        word, _flags, _stream = frames.FRAME_HEADER.unpack_from(data)
        assert word & 0xFF in SENT_FRAME_TYPES
        assert word >> 8 <= frames.LARGEST_MAX_FRAME_SIZE
        assert len(data) >= 9 + (word >> 8)
        data = data[9 + (word >> 8) :]
    return data


def _encode_request(stream: int, encoder: hpack.Encoder, *messages: bytes, **fields: str) -> bytes:
    request = {
        ":method": "POST", ":scheme": "http", ":path": "/t/Echo", "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    request |= {name.replace("_", "-"): value for name, value in fields.items()}
    flag = bytes(["grpc_encoding" in fields])
    encoded = [frames.encode_frame(frames.HEADERS, frames.END_HEADERS, stream, encoder.encode(request))]
    encoded += [frames.encode_frame(frames.DATA, 0, stream, flag + len(m).to_bytes(4, "big") + m) for m in messages]
    return b"".join(encoded) + frames.encode_frame(frames.DATA, frames.END_STREAM, stream)


def _build_seeds() -> list[bytes]:
    one, two = hpack.Encoder(), hpack.Encoder()
    greeting = frames.CONNECTION_PREFACE + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 100})
    plain = _encode_request(1, one, b"hello", b"", b"x" * 300) + _encode_request(3, one, b"!bye", b"more")
    packed = _encode_request(1, two, gzip.compress(b"a" * 2000), grpc_encoding="gzip")
    block = two.encode([(":method", "POST"), (":scheme", "http"), (":path", "/t/Echo"), ("x-y", "z" * 50)])
    cut = frames.encode_frame(frames.HEADERS, 0, 5, block[:7]) + frames.encode_frame(
        frames.CONTINUATION, frames.END_HEADERS, 5, block[7:]
    )
    control = (
        frames.encode_frame(frames.PING, 0, 0, b"12345678")
        + frames.encode_window_update(0, 1000)
        + frames.encode_window_update(1, 1000)
        + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 5, frames.SETTINGS_MAX_FRAME_SIZE: 20_000})
        + frames.encode_frame(frames.PRIORITY, 0, 1, bytes(5))
        + frames.encode_rst_stream(3, frames.ErrorCode.CANCEL)
        + frames.encode_goaway(0, frames.ErrorCode.NO_ERROR)
    )
    padded = frames.encode_frame(frames.DATA, frames.PADDED, 1, b"\x02\0\0\0\0\x01x\0\0")
    return [
        b"\xff" + greeting + plain + control,
        b"\x00" + greeting + packed + cut + control,
        b"\x05" + greeting + plain[:150] + padded + control + plain[150:],
    ]


SEEDS = _build_seeds()
