"""HTTP/2 wire format (RFC 9113): frame types, flags, settings, error codes; encoding and parsing of single frames."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

CONNECTION_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4
MAX_WINDOW_SIZE = 2**31 - 1  # section 6.9.1
DEFAULT_WINDOW_SIZE = 65_535  # section 6.9.2
# SETTINGS_MAX_FRAME_SIZE: the initial value and the largest one allowed (section 6.5.2).
DEFAULT_MAX_FRAME_SIZE = 16_384
LARGEST_MAX_FRAME_SIZE = 2**24 - 1
MAX_STREAM_ID = 2**31 - 1

# Frame types, section 6.
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

# Frame flags, section 6; their meaning depends on the frame type.
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

# Settings, section 6.5.2.
SETTINGS_ENABLE_PUSH = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS = 0x3
SETTINGS_INITIAL_WINDOW_SIZE = 0x4
SETTINGS_MAX_FRAME_SIZE = 0x5
SETTINGS_MAX_HEADER_LIST_SIZE = 0x6

# The 24-bit length and the 8-bit type are packed as one word: length << 8 | type.
FRAME_HEADER = Struct(">IBI")
FRAME_HEADER_SIZE = FRAME_HEADER.size
SETTING_ENTRY = Struct(">HI")
UINT32 = Struct(">I")
TWO_UINT32 = Struct(">II")

MAX_DEBUG_DATA = 256  # octets of reason in a GOAWAY frame


class ErrorCode(IntEnum):
    """Error codes of RST_STREAM and GOAWAY (section 7)."""

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
    """A connection error (section 5.4.1): the connection ends with GOAWAY(`code`)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code.name}: {reason}")


def encode_frame(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A frame of any type."""
    return FRAME_HEADER.pack(len(payload) << 8 | frame_type, flags, stream_id) + payload


def encode_settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame with these settings."""
    return encode_frame(SETTINGS, 0, 0, b"".join(SETTING_ENTRY.pack(key, value) for key, value in values.items()))


def encode_window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame that grants the peer `increment` octets; stream 0 is the connection."""
    return FRAME_HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id) + UINT32.pack(increment)


def encode_rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return FRAME_HEADER.pack(4 << 8 | RST_STREAM, 0, stream_id) + UINT32.pack(code)


def encode_goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """A GOAWAY frame: streams above `last_stream_id` were not and will not be processed."""
    return encode_frame(GOAWAY, 0, 0, TWO_UINT32.pack(last_stream_id, code) + reason.encode()[:MAX_DEBUG_DATA])


def parse_window_increment(payload: bytes) -> int:
    """The increment of a WINDOW_UPDATE payload, 0 included: whose error that is depends on the stream (section 6.9)."""
    if len(payload) != 4:
        raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE payload is not 4 octets")
    return int.from_bytes(payload, "big") & MAX_WINDOW_SIZE


def parse_stream_dependency(payload: bytes, flags: int = 0) -> int:
    """The stream on which a PRIORITY payload (section 6.3), or a HEADERS payload with that flag (6.2), depends."""
    start = 1 if flags & PADDED else 0
    return int.from_bytes(payload[start : start + 4], "big") & MAX_STREAM_ID


def strip_padding(payload: bytes, flags: int) -> bytes:
    """The field block fragment of a HEADERS payload: without padding and priority fields (section 6.2)."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PADDED frame without a pad length")
        start, end = 1, end - payload[0]
    if flags & PRIORITY_FLAG:
        start += 5
    if start > end:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding or priority fields exceed the frame")
    return payload[start:end]
