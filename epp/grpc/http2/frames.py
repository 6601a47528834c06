"""HTTP/2 on the wire (RFC 9113): numbers, frame headers, and how a peer may be wrong."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

CONNECTION_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_WINDOW_SIZE = 2**31 - 1
DEFAULT_WINDOW_SIZE = 65_535
DEFAULT_MAX_FRAME_SIZE = 16_384
LARGEST_MAX_FRAME_SIZE = 2**24 - 1
MAX_STREAM_ID = 2**31 - 1

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

SETTINGS_ENABLE_PUSH = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS = 0x3
SETTINGS_INITIAL_WINDOW_SIZE = 0x4
SETTINGS_MAX_FRAME_SIZE = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE = 0x6

# The three bytes of length and the one of type are read as one word: length << 8 | type.
FRAME_HEADER = Struct(">IBI")
FRAME_HEADER_SIZE = FRAME_HEADER.size
SETTING_STRUCT = Struct(">HI")
UINT32 = Struct(">I")
TWO_UINT32 = Struct(">II")


class ErrorCode(IntEnum):
    """Error codes of RFC 9113, section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class Http2ConnectionError(Exception):
    """The peer broke the protocol in a way that ends the connection with GOAWAY(`code`)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code.name}: {reason}")


def encode_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def encode_settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return encode_frame(SETTINGS, 0, 0, b"".join(SETTING_STRUCT.pack(key, value) for key, value in values.items()))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """Grants `increment` bytes; stream 0 is the connection."""
    return FRAME_HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id) + UINT32.pack(increment)


def encode_rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """Ends one stream at once."""
    return FRAME_HEADER.pack(4 << 8 | RST_STREAM, 0, stream_id) + UINT32.pack(code)


def encode_goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """Announces the end of the connection; streams up to `last_stream_id` are still served."""
    return encode_frame(GOAWAY, 0, 0, TWO_UINT32.pack(last_stream_id, code) + reason.encode()[:256])


def strip_padding(payload: bytes, flags: int) -> bytes:
    """A HEADERS payload without padding and priority fields."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length")
        start, end = 1, end - payload[0]
    if flags & PRIORITY_FLAG:
        start += 5
    if start > end:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding or priority fields exceed the frame")
    return payload[start:end]
