"""CPU of an ext_proc stream above the transport: messages, session and handler; a decider that always says the same.

    python -m bench.micro.session [--repeat 9]

short: 4 KB in one body message. long: 13 messages of 32 KB in, seven of 62,000 bytes out, 300 pieces of an answer.
Prints microseconds, the best of `--repeat` batches, beside what protobuf takes to parse the same messages.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from epp.extproc import handler
from epp.extproc.session import Limits
from epp.grpc.rpc import Method
from epp.pb import ext_proc_pb2 as pb
from epp.requestcontrol.interfaces import Head, Route
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
ANSWER = {"content-type": "text/event-stream", "date": "Thu, 01 Jan 2026 00:00:00 GMT", "server": "uvicorn"}
EVENT = b'data: {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": " word"}]}\n\n' * 2


class Nothing:
    """A transport and a flight that do nothing, and a decider that always says the same."""

    def __init__(self, *, observe: bool) -> None:
        self.route = Route("10.0.0.1:8000", self, observe)

    def decide(self, head: Head, body: bytes) -> Route:
        return self.route

    def send(self, message: bytes) -> None:
        pass

    def finish(self, status: int = 0, message: str = "") -> None:
        pass

    def served(self, target: str) -> None:
        pass

    def response_started(self, status: int, headers: Mapping[str, str]) -> None:
        pass

    def response_data(self, data: bytes) -> None:
        pass

    def ended(self, cause: str) -> None:
        pass


def stream(method: Method, peer: Nothing, messages: Sequence[bytes]) -> None:
    """One stream from beginning to end."""
    opened = method(peer)
    for message in messages:
        opened.message(message)
    opened.half_closed()


def best(work: Callable[[], object], repeat: int, count: int = BATCH) -> float:
    """Microseconds a call, of the best batch: the machine is shared."""
    batches = []
    for _ in range(repeat):
        started = perf_counter()
        for _ in range(count):
            work()
        batches.append((perf_counter() - started) / count * 1e6)
    return min(batches)


def octets(*lines: object) -> list[bytes]:
    """The messages of a transcript's events."""
    return [line.message for line in lines]  # type: ignore[attr-defined]


def scenarios() -> list[tuple[str, bool, list[bytes], float]]:
    """(name, observed, messages, budget beyond protobuf)"""
    head = request_headers(headers=HEADERS)
    short = octets(head, request_body(b"x" * 4096, end=True))
    piece = b"x" * 32_768
    long = octets(head, *[request_body(piece)] * 12, request_body(piece, end=True))
    started = response_headers(200, headers=ANSWER)
    one = octets(started, response_body(EVENT, end=True))
    many = octets(started, *[response_body(EVENT)] * 299, response_body(EVENT, end=True))
    return [
        ("short, request phase", False, short, REQUEST_US),
        ("short, and an answer of 1 piece", True, [*short, *one], 2 * REQUEST_US),
        ("long, request phase", False, long, 13 * REQUEST_US),
        ("long, and an answer of 300 pieces", True, [*long, *many], 13 * REQUEST_US + 300 * CHUNK_US),
    ]


def chunk(method: Method, peer: Nothing, repeat: int) -> float:
    """One piece of an answer."""
    opened = method(peer)
    for message in octets(request_headers(end=True), response_headers(200, headers=ANSWER)):
        opened.message(message)
    [message] = octets(response_body(EVENT))
    return best(lambda: opened.message(message), repeat, 20 * BATCH)


def parse(messages: Sequence[bytes]) -> None:
    """What protobuf itself takes."""
    for message in messages:
        pb.ProcessingRequest.FromString(message)


def row(name: str, microseconds: float, protobuf: float, budget: float) -> None:
    verdict = "ok" if microseconds - protobuf <= budget else "MISSED"
    print(f"  {name:<36} {microseconds:>8.1f} us  protobuf {protobuf:>6.1f}  budget +{budget:>6.1f}  {verdict}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    for name, observe, messages, budget in scenarios():
        peer = Nothing(observe=observe)
        method = handler.methods(peer, Tasks("bench"), Limits(), 1.0)[handler.PROCESS]
        count = max(10, BATCH * 2 // len(messages))
        taken = best(lambda: stream(method, peer, messages), repeat, count)  # noqa: B023 (called at once)
        row(name, taken, best(lambda: parse(messages), repeat, count), budget)  # noqa: B023
    peer = Nothing(observe=True)
    method = handler.methods(peer, Tasks("bench"), Limits(), 1.0)[handler.PROCESS]
    row("one piece of an answer", chunk(method, peer, repeat), 0.0, CHUNK_US)


if __name__ == "__main__":
    main()
