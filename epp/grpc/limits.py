"""Resource limits of the gRPC server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one client may use. Sizes in octets, per connection unless said otherwise.

    The native transport honours every field; grpc.aio only `max_message_size`, `max_header_list_size` and
    `max_connection_backlog`.
    """

    max_concurrent_streams: int = 65_536
    """SETTINGS_MAX_CONCURRENT_STREAMS; more are refused with REFUSED_STREAM, which the client may retry."""
    max_message_size: int = 4 << 20
    """One decompressed request message (gRPC's own default); a larger one ends its RPC with RESOURCE_EXHAUSTED."""
    max_header_list_size: int = 64 << 10
    """SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113, 6.5.2): larger request headers get HTTP 431."""
    max_continuations: int = 32
    """Fragments of one header block: the HEADERS frame and its CONTINUATION frames (flood: CERT VU#421644)."""
    max_frame_size: int = 64 << 10
    """SETTINGS_MAX_FRAME_SIZE: payload of one frame from the client."""
    stream_window: int = 4 << 20
    """SETTINGS_INITIAL_WINDOW_SIZE: flow-control window of one stream."""
    max_stream_backlog: int = 1 << 20
    """Unsent output of one stream above which its flow-control window is not replenished."""
    max_connection_backlog: int = 256 << 20
    """Incomplete request messages and unsent output together; the stream that exceeds it is ended (grpcio: per RPC)."""
    write_burst: int = 512 << 10
    """DATA written to the socket at once; the rest follows in later turns of the event loop."""
    reset_burst: int = 2_000
    """Streams that the client may reset, or have reset by protocol violations, in one burst ..."""
    resets_per_second: float = 1_000.0
    """... and continuously (rapid reset, CVE-2023-44487; MadeYouReset, CVE-2025-8671)."""
    max_control_frames: int = 10_000
    """PING and SETTINGS acknowledgements written while the client does not read."""
    handshake_timeout: float = 20.0
    """Seconds from the connection to the client's first SETTINGS."""

    @property
    def max_header_block_size(self) -> int:
        """Size of a header block, encoded or decoded, that ends the connection.

        A block above `max_header_list_size` is still decoded, to keep the HPACK state of the connection intact.
        """
        return 4 * self.max_header_list_size
