"""Single frames of HTTP/2: encoding, padding, priority fields."""

from __future__ import annotations

import pytest

from epp.grpc.http2 import frames
from epp.grpc.http2.frames import ErrorCode, Http2ConnectionError


def test_a_frame_has_length_type_flags_and_stream() -> None:
    assert frames.encode_frame(frames.DATA, frames.END_STREAM, 5, b"abc") == b"\0\0\3\0\1\0\0\0\5abc"
    assert frames.encode_window_update(0, 9) == frames.encode_frame(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\x09")
    assert frames.encode_settings({3: 100}) == frames.encode_frame(frames.SETTINGS, 0, 0, b"\0\3\0\0\0\x64")


def test_the_reason_of_a_goaway_is_truncated() -> None:
    frame = frames.encode_goaway(7, ErrorCode.CANCEL, "r" * 1000)
    assert frame[frames.FRAME_HEADER_SIZE :] == b"\0\0\0\7\0\0\0\x08" + b"r" * frames.MAX_DEBUG_DATA


@pytest.mark.parametrize(
    ("payload", "flags", "fragment"),
    [
        (b"block", 0, b"block"),
        (b"\2block..", frames.PADDED, b"block"),
        (b"\0\0\0\1\xffblock", frames.PRIORITY_FLAG, b"block"),
        (b"\1\0\0\0\1\xffblock.", frames.PADDED | frames.PRIORITY_FLAG, b"block"),
        (b"\2..", frames.PADDED, b""),
    ],
)
def test_a_fragment_is_what_padding_and_priority_leave(payload: bytes, flags: int, fragment: bytes) -> None:
    assert frames.strip_padding(payload, flags) == fragment


@pytest.mark.parametrize(
    ("payload", "flags", "code"),
    [
        (b"", frames.PADDED, ErrorCode.FRAME_SIZE_ERROR),
        (b"\3..", frames.PADDED, ErrorCode.PROTOCOL_ERROR),
        (b"\0\0\0\1", frames.PRIORITY_FLAG, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_padding_beyond_the_frame_is_a_connection_error(payload: bytes, flags: int, code: ErrorCode) -> None:
    with pytest.raises(Http2ConnectionError) as caught:
        frames.strip_padding(payload, flags)
    assert caught.value.code is code


def test_reserved_and_exclusive_bits_are_ignored() -> None:
    assert frames.parse_window_increment(b"\x80\0\0\x05") == 5
    assert frames.parse_stream_dependency(b"\x80\0\0\x05\xff") == 5
    assert frames.parse_stream_dependency(b"\2\x80\0\0\x05\xff", frames.PADDED) == 5
