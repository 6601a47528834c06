"""CPU of the native transport alone: an in-memory client, no sockets, handlers with constant replies.

    python -m bench.micro.http2 [--streams 2000] [--repeat 5]

small: a 4 KB request in two messages, two short replies, trailers. large: 13 messages of 32 KB in frames of 16 KB, read
in chunks of 64 KB, seven replies of 62 KB. Prints the best of `--repeat` runs in microseconds per stream.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import hpack

from epp.clock import SystemClock
from epp.grpc.http2 import frames
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc import ServerCall
from epp.grpc.rpc_stats import RpcStats

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEADERS = (
    (":method", "POST"),
    (":path", METHOD),
    (":authority", "epp"),
    (":scheme", "http"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-for", "10.0.0.1"),
)
READ_SIZE = 64 << 10


class ReplyingHandler:
    """Responds to the last message of a request with fixed replies."""

    __slots__ = ("call", "expected_messages", "replies")

    def __init__(self, call: ServerCall, messages: int, replies: list[bytes]) -> None:
        self.call = call
        self.expected_messages = messages
        self.replies = replies

    def on_message(self, data: bytes) -> None:
        self.expected_messages -= 1
        if not self.expected_messages:
            for reply in self.replies:
                self.call.send(reply)
            self.call.finish()

    def on_half_close(self) -> None:
        pass

    def on_cancel(self) -> None:
        pass


def build_request(encoder: hpack.Encoder, stream: int, messages: list[bytes]) -> bytes:
    """Octets of one request as Envoy sends them."""
    return frames.encode_frame(frames.HEADERS, frames.END_HEADERS, stream, encoder.encode(HEADERS)) + build_data_frames(
        stream, messages
    )


def build_data_frames(stream: int, messages: list[bytes]) -> bytes:
    """Messages in DATA frames of the default maximum size."""
    encoded = []
    for message in messages:
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        encoded += [
            frames.encode_frame(frames.DATA, 0, stream, framed[i : i + frames.DEFAULT_MAX_FRAME_SIZE])
            for i in range(0, len(framed), frames.DEFAULT_MAX_FRAME_SIZE)
        ]
    return b"".join(encoded)


def measure_cpu(streams: int, messages: list[bytes], replies: list[bytes]) -> float:
    """CPU seconds per stream."""
    methods: dict[str, Callable[[ServerCall], ReplyingHandler]] = {
        METHOD: lambda call: ReplyingHandler(call, len(messages), replies)
    }
    connection = Connection(methods, SystemClock(), TransportLimits(), RpcStats(), lambda: None)
    connection.receive_data(
        frames.CONNECTION_PREFACE + frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 24})
    )
    connection.data_to_send()
    encoder = hpack.Encoder()
    cpu_seconds = 0.0
    for index in range(streams):
        stream = 2 * index + 1
        octets = build_request(encoder, stream, messages)
        reads = [octets[i : i + READ_SIZE] for i in range(0, len(octets), READ_SIZE)]
        connection.receive_data(frames.encode_window_update(0, sum(map(len, replies)) + 100))
        start = time.process_time()
        for read in reads:
            connection.receive_data(read)
            connection.data_to_send()
        while connection.has_data_to_send:
            connection.data_to_send()
        cpu_seconds += time.process_time() - start
    assert not connection.streams
    return cpu_seconds / streams


def main() -> None:
    """The command: measures both workloads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    workloads = {
        "small": ([bytes(400), bytes(4096)], [bytes(200), bytes(300)], arguments.streams),
        "large": ([bytes(400), *[bytes(32 << 10)] * 13], [bytes(200), *[bytes(62_000)] * 7], arguments.streams // 10),
    }
    for name, (messages, replies, streams) in workloads.items():
        best = min(measure_cpu(streams, messages, replies) for _ in range(arguments.repeat))
        print(f"{name:6} {best * 1e6:7.1f} us of CPU per stream")


if __name__ == "__main__":
    main()
