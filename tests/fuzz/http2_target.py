"""Octets for the HTTP/2 core: whatever comes, it answers whole frames, forgets nothing and keeps nothing."""

from __future__ import annotations

import gzip

import hpack

from epp.clock import ManualClock
from epp.grpc.http2 import frames as h2
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import Limits
from epp.grpc.rpc import Call
from epp.grpc.rpc_stats import Streams

LIMITS = Limits(
    streams=8, message=10_000, header_list=1_000, window=5_000, stream_backlog=500, connection_backlog=20_000, resets=50
)
KNOWN = frozenset((h2.DATA, h2.HEADERS, h2.RST_STREAM, h2.SETTINGS, h2.PING, h2.GOAWAY, h2.WINDOW_UPDATE))


class Echo:
    """Checks the promises of `Handler` while it answers."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.over = False

    def message(self, data: bytes) -> None:
        assert not self.over
        assert len(data) <= LIMITS.message
        self.call.send(data)
        if data[:1] == b"!":
            self.over = True
            self.call.finish(3, "as told")

    def half_closed(self) -> None:
        assert not self.over
        self.over = True
        self.call.finish()

    def lost(self) -> None:
        assert not self.over
        self.over = True


def check(data: bytes) -> None:
    """The first octet says how the rest is cut."""
    wakes: list[int] = []
    streams = Streams()
    connection = Connection({"/t/Echo": Echo}, ManualClock(), LIMITS, streams, lambda: wakes.append(1))
    step = data[0] * 4 + 1 if data else 1
    written = connection.take()
    for start in range(1, len(data), step):
        connection.receive(data[start : start + step])
        written = whole_frames(written + connection.take())
        assert streams.open == len(connection.streams) <= LIMITS.streams
        assert 0 <= connection._out.backlog <= LIMITS.connection_backlog + LIMITS.message + 5
        assert connection._out.window >= 0
    connection.lost()
    assert streams.open == connection._out.backlog == 0
    assert not wakes
    assert not written


def whole_frames(data: bytes) -> bytes:
    while data:
        word, _flags, _stream = h2.FRAME.unpack_from(data)
        assert word & 0xFF in KNOWN
        assert word >> 8 <= h2.LARGEST_FRAME
        assert len(data) >= 9 + (word >> 8)
        data = data[9 + (word >> 8) :]
    return data


def _request(stream: int, encoder: hpack.Encoder, *messages: bytes, **fields: str) -> bytes:
    request = {
        ":method": "POST", ":scheme": "http", ":path": "/t/Echo", "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    request |= {name.replace("_", "-"): value for name, value in fields.items()}
    flag = bytes(["grpc_encoding" in fields])
    frames = [h2.frame(h2.HEADERS, h2.END_HEADERS, stream, encoder.encode(request))]
    frames += [h2.frame(h2.DATA, 0, stream, flag + len(m).to_bytes(4, "big") + m) for m in messages]
    return b"".join(frames) + h2.frame(h2.DATA, h2.END_STREAM, stream)


def _seeds() -> list[bytes]:
    one, two = hpack.Encoder(), hpack.Encoder()
    greeting = h2.PREFACE + h2.settings({h2.SETTING_WINDOW: 100})
    plain = _request(1, one, b"hello", b"", b"x" * 300) + _request(3, one, b"!bye", b"more")
    packed = _request(1, two, gzip.compress(b"a" * 2000), grpc_encoding="gzip")
    block = two.encode([(":method", "POST"), (":scheme", "http"), (":path", "/t/Echo"), ("x-y", "z" * 50)])
    cut = h2.frame(h2.HEADERS, 0, 5, block[:7]) + h2.frame(h2.CONTINUATION, h2.END_HEADERS, 5, block[7:])
    control = (
        h2.frame(h2.PING, 0, 0, b"12345678")
        + h2.window_update(0, 1000)
        + h2.window_update(1, 1000)
        + h2.settings({h2.SETTING_WINDOW: 5, h2.SETTING_FRAME: 20_000})
        + h2.frame(h2.PRIORITY, 0, 1, bytes(5))
        + h2.reset(3, h2.Code.CANCEL)
        + h2.goaway(0, h2.Code.NO_ERROR)
    )
    padded = h2.frame(h2.DATA, h2.PADDED, 1, b"\x02\0\0\0\0\x01x\0\0")
    return [
        b"\xff" + greeting + plain + control,
        b"\x00" + greeting + packed + cut + control,
        b"\x05" + greeting + plain[:150] + padded + control + plain[150:],
    ]


SEEDS = _seeds()
