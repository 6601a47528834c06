"""Frame boundaries, the connection preface, header blocks in several frames."""

from __future__ import annotations

from random import Random

import pytest

from epp.grpc.http2 import frames
from epp.grpc.http2.frame_reader import FrameReader
from epp.grpc.http2.frames import ErrorCode, Http2ConnectionError
from epp.grpc.limits import TransportLimits


def test_messages_are_independent_of_frame_boundaries(http2):
    peer = http2.connect()
    stream = http2.grpc_message(b"") + http2.grpc_message(b"x" * 10) + http2.grpc_message(b"y" * 300)
    response = peer.send(
        peer.headers_frame() + b"".join(http2.data_frame(1, stream[i : i + 1]) for i in range(len(stream)))
    )
    assert peer.events == [b"", b"x" * 10, b"y" * 300]
    assert http2.stream_data(response) == stream


def test_headers_with_continuations_padding_and_priority(http2):
    peer = http2.connect()
    block = peer.header_block(path="/t/Record")
    first = b"\x03" + b"\x80\0\0\0\x10" + block[:5] + b"pad"
    flags = frames.PADDED | frames.PRIORITY_FLAG
    peer.send(
        frames.encode_frame(frames.HEADERS, flags, 1, first)
        + frames.encode_frame(frames.CONTINUATION, 0, 1, block[5:9])
    )
    assert peer.calls == []
    peer.send(frames.encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]))
    padded = b"\x04" + http2.grpc_message(b"x") + b"\0\0\0\0"
    peer.send(frames.encode_frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, padded))
    assert peer.events == [b"x", "half-close"]


PING = frames.encode_frame(frames.PING, 0, 0, b"12345678")


@pytest.mark.parametrize(
    "preface",
    [
        b"GET / HTTP/1.1\r\nhost: picker\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        frames.CONNECTION_PREFACE + PING,
        frames.CONNECTION_PREFACE + frames.encode_frame(frames.SETTINGS, frames.ACK, 0),
        frames.CONNECTION_PREFACE[:-1] + b"x",
    ],
)
def test_an_invalid_connection_preface(http2, preface):
    peer = http2.create_peer()
    assert http2.goaway_code(peer.send(preface)) is ErrorCode.PROTOCOL_ERROR
    assert peer.connection.closing


class FrameRecorder:
    """Records frames; the parts of a DATA frame are joined."""

    def __init__(self) -> None:
        self.frames: list[tuple[object, ...]] = []
        self.data: dict[int, bytes] = {}

    def on_data(self, buffer: bytes, start: int, end: int, flags: int, stream_id: int) -> None:
        self.data[stream_id] = self.data.get(stream_id, b"") + buffer[start:end]
        if flags:
            self.frames.append(("data", flags, stream_id, self.data.pop(stream_id)))

    def on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        self.frames.append(("headers", flags, stream_id, block))

    def on_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        self.frames.append((frame_type, flags, stream_id, payload))


def test_frames_are_the_same_wherever_reads_cut_them():
    octets = (
        frames.CONNECTION_PREFACE
        + frames.encode_settings({frames.SETTINGS_ENABLE_PUSH: 0})
        + frames.encode_frame(frames.HEADERS, 0, 1, b"blo")
        + frames.encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"ck")
        + frames.encode_frame(frames.DATA, frames.END_STREAM, 1, b"x" * 300)
        + frames.encode_frame(frames.DATA, frames.PADDED, 3, b"\1x.")
        + PING
    )
    expected = [
        (frames.SETTINGS, 0, 0, b"\0\2\0\0\0\0"),
        ("headers", 0, 1, b"block"),
        ("data", frames.END_STREAM, 1, b"x" * 300),
        (frames.DATA, frames.PADDED, 3, b"\1x."),
        (frames.PING, 0, 0, b"12345678"),
    ]
    rng = Random(1)
    for longest in (1, 9, 40, len(octets)):
        recorder = FrameRecorder()
        reader = FrameReader(TransportLimits(), recorder)
        at = 0
        while at < len(octets):
            size = rng.randint(1, longest)
            reader.feed(octets[at : at + size])
            at += size
        assert recorder.frames == expected, longest


def test_a_frame_larger_than_allowed_is_rejected_by_its_header():
    reader = FrameReader(TransportLimits(max_frame_size=20_000), FrameRecorder())
    reader.feed(frames.CONNECTION_PREFACE + frames.encode_settings({}))
    with pytest.raises(Http2ConnectionError) as caught:
        reader.feed(frames.FRAME_HEADER.pack(20_001 << 8 | frames.PING, 0, 0))
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR
