"""Property tests of the HTTP/2 connection: fragmented and interleaved input, flow control, invalid input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.clock import ManualClock
from epp.grpc.http2 import frames
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc_stats import RpcStats

PREFACE = frames.CONNECTION_PREFACE + frames.encode_settings({})
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t/Echo"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Echo:
    """Sends every message back, and finishes when the client half-closes."""

    def __init__(self, call, events):
        self.call, self.events = call, events

    def on_message(self, data):
        self.events.append(data)
        self.call.send(data)

    def on_half_close(self):
        self.events.append("half-close")
        self.call.finish()

    def on_cancel(self):
        self.events.append("cancel")


class Server:
    """A connection, the calls of its handlers by RPC in order of opening, and its output."""

    def __init__(self, limits=None):
        self.events: list[list[object]] = []
        self.written = b""
        self.connection = Connection(
            {"/t/Echo": self._create_echo}, ManualClock(), limits or TransportLimits(), RpcStats(), lambda: None
        )

    def _create_echo(self, call):
        self.events.append([])
        return Echo(call, self.events[-1])

    def receive(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.connection.receive_data(chunk)
            self.write()

    def write(self) -> None:
        self.written += self.connection.data_to_send()
        while self.connection.has_data_to_send:
            self.written += self.connection.data_to_send()

    def responses(self) -> dict[int, tuple[bytes, bool]]:
        """By stream: all DATA octets, and whether it has ended."""
        found: dict[int, tuple[bytes, bool]] = {}
        for kind, flags, stream, payload in split_frames(self.written):
            data, ended = found.get(stream, (b"", False))
            if kind == frames.DATA:
                found[stream] = data + payload, ended
            elif kind in {frames.HEADERS, frames.RST_STREAM}:
                found[stream] = data, ended or kind == frames.RST_STREAM or bool(flags & frames.END_STREAM)
        return found


def split_frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    while data:
        word, flags, stream = frames.FRAME_HEADER.unpack_from(data)
        end = 9 + (word >> 8)
        yield word & 0xFF, flags, stream, data[9:end]
        data = data[end:]


def fragment(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Chunks of these sizes, repeated."""
    for size in cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


def build_request(messages: list[bytes], cut: int, padding: int, trailers: bool) -> list[tuple[int, int, bytes]]:
    """A request as (type, flags, payload); header blocks are encoded when their order in the connection is known."""
    octets = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
    request_frames = [(frames.HEADERS, frames.END_HEADERS, b"")]
    for start in range(0, len(octets), cut):
        part = octets[start : start + cut]
        flags = frames.PADDED if padding else 0
        request_frames.append((frames.DATA, flags, bytes([padding]) + part + bytes(padding) if padding else part))
    if trailers:
        request_frames.append((frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, b""))
    elif request_frames[-1][0] == frames.DATA and len(messages) % 2:
        request_frames[-1] = (frames.DATA, request_frames[-1][1] | frames.END_STREAM, request_frames[-1][2])
    else:
        request_frames.append((frames.DATA, frames.END_STREAM, b""))
    return request_frames


requests = st.lists(
    st.builds(
        build_request,
        st.lists(st.binary(max_size=40), max_size=4),
        st.integers(1, 30),
        st.sampled_from([0, 0, 1, 7]),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def interleave(requests, choose) -> tuple[bytes, list[int]]:
    """Octets of one connection with the frames of all requests in any order, and the request of each stream."""
    encoder, left = hpack.Encoder(), [list(request) for request in requests]
    streams: dict[int, int] = {}
    octets = [PREFACE]
    while any(left):
        index = choose([index for index, waiting in enumerate(left) if waiting])
        kind, flags, payload = left[index].pop(0)
        if kind == frames.HEADERS and index not in streams:
            streams[index] = 2 * len(streams) + 1
            payload = encoder.encode(REQUEST)
        elif kind == frames.HEADERS:
            payload = encoder.encode([("x-request", str(index))])
        octets.append(frames.encode_frame(kind, flags, streams[index], payload))
    return b"".join(octets), list(streams)


@given(requests, st.lists(st.integers(1, 60), min_size=1), st.data())
@settings(max_examples=150, deadline=None)
def test_fragmentation_and_interleaving_do_not_change_the_responses(requests, sizes, data):
    plain, _ = interleave(requests, lambda indices: indices[0])
    expected = Server()
    expected.receive([plain])
    assert all(events[-1] == "half-close" for events in expected.events)
    mixed, order = interleave(requests, lambda indices: data.draw(st.sampled_from(indices)))
    server = Server()
    server.receive(fragment(mixed, sizes))
    assert server.events == [expected.events[index] for index in order]
    responses, wanted = server.responses(), expected.responses()
    assert [responses[2 * place + 1] for place in range(len(order))] == [wanted[2 * index + 1] for index in order]
    assert not server.connection.streams
    assert server.connection._send_buffer.buffered_bytes == 0


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=200, deadline=None)
def test_garbage_ends_the_connection_cleanly(chunks):
    server = Server()
    server.receive([PREFACE, *chunks])
    server.connection.connection_lost()
    assert not server.connection.streams
    assert all(events[-1] in ("cancel", "half-close") for events in server.events if events)


@given(requests, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_corrupted_input_ends_the_connection_cleanly(requests, corruptions):
    octets = bytearray(interleave(requests, lambda indices: indices[-1])[0])
    for place, value in corruptions:
        octets[len(PREFACE) + place % (len(octets) - len(PREFACE))] = value
    server = Server(TransportLimits(max_connection_backlog=10_000))
    server.receive([bytes(octets)])
    list(split_frames(server.written))
    server.connection.connection_lost()
    assert server.connection._send_buffer.buffered_bytes == 0
    assert all(events[-1] in ("cancel", "half-close") for events in server.events if events)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.sampled_from([0, 1, 100, 16_379, 16_380, 30_000, 60_000])),
        st.tuples(st.just("window"), st.integers(0, 3), st.integers(1, 70_000)),
        st.tuples(st.just("initial"), st.just(0), st.integers(0, 60_000)),
        st.tuples(st.just("pause"), st.integers(0, 1), st.just(0)),
    ),
    max_size=30,
)


class WindowTracker:
    """A client that tracks every flow-control window itself."""

    def __init__(self, initial: int) -> None:
        self.server = Server(TransportLimits(write_burst=50_000))
        self.calls = []
        self.server.connection._methods = {"/t/Echo": lambda call: (self.calls.append(call), Echo(call, []))[1]}
        encoder = hpack.Encoder()
        opening = [
            frames.encode_frame(frames.HEADERS, frames.END_HEADERS, stream, encoder.encode(REQUEST))
            for stream in (1, 3, 5)
        ]
        self.server.receive(
            [
                frames.CONNECTION_PREFACE + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: initial}),
                *opening,
            ]
        )
        self.initial = initial
        self.windows = {0: 65_535, 1: initial, 3: initial, 5: initial}
        self.sent = dict.fromkeys((1, 3, 5), b"")
        self.paused = False
        self.checked = len(self.server.written)

    def step(self, action: str, which: int, amount: int) -> None:
        connection = self.server.connection
        if action == "send":
            message = bytes([which + 65]) * amount
            self.calls[which].send(message)
            self.sent[2 * which + 1] += b"\0" + len(message).to_bytes(4, "big") + message
        elif action == "window":
            stream = 2 * which - 1 if which else 0
            self.windows[stream] += amount
            connection.receive_data(frames.encode_window_update(stream, amount))
        elif action == "initial":
            for stream in (1, 3, 5):
                self.windows[stream] += amount - self.initial
            self.initial = amount
            connection.receive_data(frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: amount}))
        elif self.paused != bool(which):
            self.paused = bool(which)
            connection.pause_writing() if self.paused else connection.resume_writing()
        self.server.write()
        self.check()

    def check(self) -> None:
        """Output since the last check is within the windows that were granted."""
        for kind, _, stream, payload in split_frames(self.server.written[self.checked :]):
            if kind == frames.DATA:
                assert not self.paused
                self.windows[0] -= len(payload)
                self.windows[stream] -= len(payload)
                assert self.windows[0] >= 0
                assert self.windows[stream] >= 0
                assert 0 < len(payload) <= frames.DEFAULT_MAX_FRAME_SIZE
        self.checked = len(self.server.written)


@given(steps, st.integers(0, 65_535))
@settings(max_examples=300, deadline=None)
def test_no_window_is_exceeded_and_no_data_is_lost(steps, initial):
    client = WindowTracker(initial)
    for step in steps:
        client.step(*step)
    client.step("pause", 0, 0)
    for which in range(4):
        client.step("window", which, 1 << 30)
    for call in client.calls:
        call.finish()
    client.server.write()
    client.check()
    responses = client.server.responses()
    assert {stream: responses[stream] for stream in client.sent} == {
        stream: (data, True) for stream, data in client.sent.items()
    }
