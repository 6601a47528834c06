"""A request of the scenario `short` in one process, from bytes in to bytes out: HTTP/2, session, decision; no sockets.

    python -m bench.micro.request [--completion access-log] [--repeat 15] [--opcodes]

Eight requests interleave on one connection, as Envoy sends them: headers, 4 KB of body and the body's end, and with
`extproc` the response headers, one event, and its end; then RST_STREAM. Prints microseconds for each request, in the
best of some batches. `--opcodes` counts bytecode instructions by function instead: the count is the same to a
thousandth in every run, and exactly the same with PYTHONHASHSEED=0, so that it shows a change on a busy machine too.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from time import perf_counter
from types import FrameType
from typing import Any
from uuid import UUID

import hpack

from bench.cost.in_process import create_director, record_random_scrape
from bench.cost.load import REQUEST_PATH, build_bodies
from bench.micro import http2
from epp.cli.serve import GC_THRESHOLDS
from epp.clock import SystemClock
from epp.extproc import handler
from epp.extproc.session import RequestLimits
from epp.grpc.http2 import frames
from epp.grpc.http2.connection import Connection
from epp.grpc.limits import TransportLimits
from epp.grpc.rpc_stats import RpcStats
from epp.requestcontrol.completion import AccessLogCompletion, AccessLogEntry, Completion, ObservedCompletion
from epp.tasks import Tasks
from epp.testing.events import request_body, request_headers, response_body, response_headers

SERVERS = 10
INTERLEAVED_REQUESTS = 8
BATCH = 400
TRACED_REQUESTS = 40  # whose instructions are counted
REPORTED_FUNCTIONS = 40
EVENT = b'data: {"id":"cmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" tok"}}]}\n\n'
Read = tuple[bytes, list[AccessLogEntry]]
"""The bytes of one read of the socket, and the access log entries that arrive with them."""


class Traffic:
    """The bytes that Envoy sends on one connection."""

    def __init__(self, observed: bool) -> None:
        self._observed = observed
        self._bodies = [body.encode() for body in build_bodies(4096, 64)]
        self._encoder = hpack.Encoder()
        self._rng = Random(1)
        self._stream = -1

    def client_preface(self) -> bytes:
        """Connection preface, SETTINGS, and a full connection window."""
        settings = frames.encode_settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 24})
        return (
            frames.CONNECTION_PREFACE
            + settings
            + frames.encode_window_update(0, frames.MAX_WINDOW_SIZE - frames.DEFAULT_WINDOW_SIZE)
        )

    def generate_reads(self, requests: int) -> Iterator[Read]:
        """The reads of so many requests: in groups, requests first, then responses, then ends."""
        for _ in range(0, requests, INTERLEAVED_REQUESTS):
            streams = [
                (self._next_stream_id(), str(UUID(int=self._rng.getrandbits(128), version=4)))
                for _ in range(INTERLEAVED_REQUESTS)
            ]
            yield b"".join(self._encode_request(*each) for each in streams), []
            if self._observed:
                yield b"".join(self._encode_response(stream) for stream, _ in streams), []
            ends = b"".join(frames.encode_rst_stream(stream, frames.ErrorCode.CANCEL) for stream, _ in streams)
            yield ends, [] if self._observed else [_build_log_entry(request_id) for _, request_id in streams]

    def _next_stream_id(self) -> int:
        self._stream += 2
        return self._stream

    def _encode_request(self, stream: int, request_id: str) -> bytes:
        body = self._bodies[stream // 2 % len(self._bodies)]
        headers = {"content-type": "application/json", "content-length": str(len(body)), "x-request-id": request_id}
        headers |= {"user-agent": "python-httpx/0.28.1", "accept": "application/json", "x-forwarded-proto": "http"}
        lines = (request_headers(REQUEST_PATH, headers=headers), request_body(body), request_body(end=True))
        return http2.build_request(self._encoder, stream, _serialize_events(lines))

    def _encode_response(self, stream: int) -> bytes:
        first = response_headers(200, headers={"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        return http2.build_data_frames(
            stream, _serialize_events((first, response_body(EVENT), response_body(end=True)))
        )


def _serialize_events(events: tuple[Any, ...]) -> list[bytes]:
    return [event.message + b"\x42\0" for event in events]  # Envoy adds an empty metadata_context


def _build_log_entry(request_id: str) -> AccessLogEntry:
    return AccessLogEntry(request_id, 200, "", 0.0, 0.1, ttfb_seconds=0.05, response_bytes=len(EVENT))


class PickerUnderTest:
    """Connection, handler and director of one picker with ten endpoints."""

    def __init__(self, completion: str) -> None:
        clock, rng = SystemClock(), Random(1)
        self._log = AccessLogCompletion(clock, rng) if completion == "access-log" else None
        source: Completion = self._log or ObservedCompletion()
        self._director, self._writer = create_director(SERVERS, clock, rng, source)
        methods = handler.ext_proc_methods(self._director, Tasks("bench"), RequestLimits(), 1.0)
        self._connection = Connection(methods, clock, TransportLimits(), RpcStats(), lambda: None)
        self._traffic = Traffic(observed=self._log is None)
        self._clock, self._rng = clock, rng
        self._process_read((self._traffic.client_preface(), []))

    def prepare_reads(self, requests: int) -> list[Read]:
        """Records a scrape of one endpoint, and returns the reads of so many requests."""
        record_random_scrape(self._writer, self._rng.randrange(SERVERS), self._clock, self._rng)
        return list(self._traffic.generate_reads(requests))

    def process_reads(self, reads: list[Read]) -> None:
        """Feeds the connection, and the completion with the access log entries; output is discarded."""
        for read in reads:
            self._process_read(read)

    def _process_read(self, read: Read) -> None:
        data, entries = read
        self._connection.receive_data(data)
        self._connection.data_to_send()
        if self._log is not None:
            for entry in entries:
                self._log.on_log_entry(entry)


def measure_microseconds(picker: PickerUnderTest, repeat: int) -> float:
    """Microseconds for each request, in the best batch: other processes slow the others."""
    batches = []
    for _ in range(repeat):
        spent = 0.0
        for _ in range(BATCH // INTERLEAVED_REQUESTS):
            reads = picker.prepare_reads(INTERLEAVED_REQUESTS)
            started = perf_counter()
            picker.process_reads(reads)
            spent += perf_counter() - started
        batches.append(spent / BATCH * 1e6)
    return min(batches)


def count_opcodes(picker: PickerUnderTest) -> Counter[str]:
    """Bytecode instructions by function, for `TRACED_REQUESTS` requests."""
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            code = frame.f_code
            found[f"{code.co_filename.rpartition('/')[2]} {code.co_name}"] += 1
        return trace

    for _ in range(TRACED_REQUESTS // INTERLEAVED_REQUESTS):
        reads = picker.prepare_reads(INTERLEAVED_REQUESTS)
        sys.settrace(trace)
        try:
            picker.process_reads(reads)
        finally:
            sys.settrace(None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completion", choices=("extproc", "access-log"), default="extproc")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--opcodes", action="store_true", help="count bytecode instead of time")
    arguments = parser.parse_args()
    picker = PickerUnderTest(arguments.completion)
    picker.process_reads(picker.prepare_reads(BATCH))
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if not arguments.opcodes:
        print(f"{arguments.completion}: {measure_microseconds(picker, arguments.repeat):.1f} us a request")
        return
    found = count_opcodes(picker)
    print(f"{arguments.completion}: {found.total() / TRACED_REQUESTS:,.0f} instructions a request")
    print(
        "\n".join(f"  {count / TRACED_REQUESTS:8.1f}  {name}" for name, count in found.most_common(REPORTED_FUNCTIONS))
    )


if __name__ == "__main__":
    main()
