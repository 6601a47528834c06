"""CPU time of an ext_proc stream above the transport: codec, session and handler, with a constant routing decision.

    python -m bench.micro.session [--repeat 9]

short: 4 KB in one body message. long: 13 messages of 32 KB in, seven of 62,000 bytes out, 300 response chunks. Prints
microseconds, the best of `--repeat` batches, and what protobuf takes to parse the same messages.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from bench.micro.timing import best_microseconds
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.grpc.rpc import HandlerFactory
from epp.pb import ext_proc_pb2 as pb
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from epp.tasks import Tasks
from epp.testing.events import request_body, request_headers, response_body, response_headers

REQUEST_US = 15.0
CHUNK_US = 4.0
BATCH = 500
HEADERS = {
    "user-agent": "python-httpx/0.28.1",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "authorization": "Bearer 0123456789abcdef0123456789abcdef",
    "content-length": "4096",
    "x-forwarded-for": "10.0.0.9",
    "x-forwarded-proto": "http",
    "x-request-id": "6f1c9d0e-6a54-4f2e-9d3c-0a4b8f1c2d3e",
    "x-envoy-expected-rq-timeout-ms": "3600000",
    "x-stainless-lang": "python",
}
RESPONSE_HEADERS = {"content-type": "text/event-stream", "date": "Thu, 01 Jan 2026 00:00:00 GMT", "server": "uvicorn"}
EVENT = b'data: {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": " word"}]}\n\n' * 2


class NullPeer:
    """Implements `ServerCall` and `RoutedRequest` without effect, and `Router` with a constant decision."""

    def __init__(self, *, observe: bool) -> None:
        self.decision = RoutingDecision("10.0.0.1:8000", self, observe)

    def route_request(self, headers: RequestHeaders, body: bytes) -> RoutingDecision:
        return self.decision

    def send(self, message: bytes) -> None:
        pass

    def finish(self, status: int = 0, message: str = "") -> None:
        pass

    def on_served_by(self, target: str) -> None:
        pass

    def on_response_headers(self, status: int, headers: Mapping[str, str]) -> None:
        pass

    def on_response_body(self, data: bytes) -> None:
        pass

    def finalize(self, cause: str) -> None:
        pass


def play_stream(method: HandlerFactory, peer: NullPeer, messages: Sequence[bytes]) -> None:
    """One stream from its first message to the half-close."""
    opened = method(peer)
    for message in messages:
        opened.on_message(message)
    opened.on_half_close()


def serialize_events(*events: object) -> list[bytes]:
    """The serialized messages of these events."""
    return [event.message for event in events]  # type: ignore[attr-defined]


def build_scenarios() -> list[tuple[str, bool, list[bytes], float]]:
    """(name, is the response observed, messages, budget in microseconds beyond protobuf)"""
    first = request_headers(headers=HEADERS)
    short = serialize_events(first, request_body(b"x" * 4096, end=True))
    chunk = b"x" * 32_768
    long = serialize_events(first, *[request_body(chunk)] * 12, request_body(chunk, end=True))
    started = response_headers(200, headers=RESPONSE_HEADERS)
    one = serialize_events(started, response_body(EVENT, end=True))
    many = serialize_events(started, *[response_body(EVENT)] * 299, response_body(EVENT, end=True))
    return [
        ("short, request phase", False, short, REQUEST_US),
        ("short, and a response of 1 chunk", True, [*short, *one], 2 * REQUEST_US),
        ("long, request phase", False, long, 13 * REQUEST_US),
        ("long, and a response of 300 chunks", True, [*long, *many], 13 * REQUEST_US + 300 * CHUNK_US),
    ]


def time_response_chunk(method: HandlerFactory, peer: NullPeer, repeat: int) -> float:
    """Microseconds for one response chunk."""
    opened = method(peer)
    for message in serialize_events(request_headers(end=True), response_headers(200, headers=RESPONSE_HEADERS)):
        opened.on_message(message)
    [message] = serialize_events(response_body(EVENT))
    return best_microseconds(lambda: opened.on_message(message), 20 * BATCH, repeat)


def parse_with_protobuf(messages: Sequence[bytes]) -> None:
    """Parses the messages, for comparison."""
    for message in messages:
        pb.ProcessingRequest.FromString(message)


def print_row(name: str, microseconds: float, protobuf: float, budget: float) -> None:
    verdict = "ok" if microseconds - protobuf <= budget else "MISSED"
    print(f"  {name:<36} {microseconds:>8.1f} us  protobuf {protobuf:>6.1f}  budget +{budget:>6.1f}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    for name, observe, messages, budget in build_scenarios():
        peer = NullPeer(observe=observe)
        method = handler.ext_proc_methods(peer, Tasks("bench"), RequestLimits(), 1.0)[handler.PROCESS_METHOD]
        count = max(10, BATCH * 2 // len(messages))
        stream_us = best_microseconds(lambda: play_stream(method, peer, messages), count, repeat)  # noqa: B023 (called at once)
        protobuf_us = best_microseconds(lambda: parse_with_protobuf(messages), count, repeat)  # noqa: B023
        print_row(name, stream_us, protobuf_us, budget)
    peer = NullPeer(observe=True)
    method = handler.ext_proc_methods(peer, Tasks("bench"), RequestLimits(), 1.0)[handler.PROCESS_METHOD]
    print_row("one response chunk", time_response_chunk(method, peer, repeat), 0.0, CHUNK_US)


if __name__ == "__main__":
    main()
