"""What a transport grants a peer before it calls it an attack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of one server; sizes in bytes. Both transports read it, the native one honours every field."""

    max_concurrent_streams: int = 65_536
    """Concurrent streams of one connection; more are refused, which the peer may repeat."""
    max_message_size: int = 4 << 20
    """One decompressed request message (gRPC's own default); larger ones end the RPC with status 8."""
    max_header_list_size: int = 64 << 10
    """Decoded request headers (RFC 9113, 6.5.2); larger ones get HTTP 431, four times as large ends the connection."""
    max_continuations: int = 32
    """CONTINUATION frames of one header block."""
    max_frame_size: int = 64 << 10
    """Largest frame payload that the peer may send."""
    stream_window: int = 4 << 20
    """Flow-control window of a stream; withheld while the stream's own output waits."""
    max_stream_backlog: int = 1 << 20
    """Output waiting on one stream above which the peer gets no more window for it."""
    max_connection_backlog: int = 256 << 20
    """Incomplete messages and waiting output of one connection (grpcio: output of one RPC); who exceeds it is ended."""
    write_burst: int = 512 << 10
    """DATA handed to the socket in one go; the rest waits its turn."""
    reset_burst: int = 2_000
    """Streams that the peer may reset, or have reset by violations, in one burst ..."""
    resets_per_second: float = 1_000.0
    """... and steadily (rapid reset, CVE-2023-44487; made-you-reset, CVE-2025-8671)."""
    max_control_frames: int = 10_000
    """Empty DATA frames, and answers to PING and SETTINGS while the peer does not read."""
    handshake_timeout: float = 20.0
    """Time to the client's first SETTINGS."""
