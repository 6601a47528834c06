"""Model servers without a model, on 127.0.1.1 … 127.0.1.N, one port, in one process.

`/metrics` is a captured page of a real vLLM; the response to a POST is K server-sent events, GAP seconds apart (0: one
per turn of the event loop); `/counts` reports how many of either were served.

    python -m bench.cost.fleet --servers 10 --port 8000 --chunks 200 --gap 0.005
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import cast

import uvloop

METRICS_PAGE = Path(__file__).parents[2] / "tests" / "data" / "vllm" / "metrics_under_load.txt"
EVENT = (
    b'data: {"id":"cmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" tok"},"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
LAST_CHUNK = b"0\r\n\r\n"
RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def server_address(index: int) -> str:
    """IP address of server `index`, counted from 0."""
    return f"127.0.{1 + index // 250}.{1 + index % 250}"


class FleetState:
    """Shared by all connections: the responses, and counts of them."""

    def __init__(self, page: bytes, chunks: int, gap: float, loop: asyncio.AbstractEventLoop) -> None:
        self.metrics = _encode_response(page, b"text/plain; version=0.0.4; charset=utf-8")
        self.chunks = chunks
        self.gap = gap
        self.loop = loop
        self.scrapes = 0
        self.posts = 0

    def render_counts(self) -> bytes:
        """The response to GET /counts."""
        return _encode_response(
            json.dumps({"scrapes": self.scrapes, "posts": self.posts}).encode(), b"application/json"
        )


class FleetConnection(asyncio.Protocol):
    """One connection; requests are not pipelined."""

    def __init__(self, state: FleetState) -> None:
        self._state = state
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._transport is not None and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            if self._buffer.startswith(b"GET"):
                self._answer_get(bytes(self._buffer[:end]))
                del self._buffer[: end + 4]
                continue
            length = self._request_length(end)
            if length is None:
                return
            del self._buffer[:length]
            self._state.posts += 1
            self._sent = 0
            self._transport.write(RESPONSE_HEAD)
            self._send_chunk()

    def _answer_get(self, head: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"GET /counts"):
            self._transport.write(self._state.render_counts())
            return
        self._state.scrapes += 1
        self._transport.write(self._state.metrics)

    def _request_length(self, end: int) -> int | None:
        """Length of the whole request; None while it is incomplete."""
        head = bytes(self._buffer[:end]).lower()
        if b"transfer-encoding" in head:
            return len(self._buffer) if self._buffer.endswith(LAST_CHUNK) else None
        _, _, rest = head.partition(b"content-length:")
        length = end + 4 + int(rest.split(b"\r\n", 1)[0] or b"0")
        return length if len(self._buffer) >= length else None

    def _send_chunk(self) -> None:
        state = self._state
        if self._transport is None:
            return
        self._transport.write(CHUNK)
        self._sent += 1
        if self._sent >= state.chunks:
            self._transport.write(LAST_CHUNK)
        elif state.gap:
            state.loop.call_later(state.gap, self._send_chunk)
        else:
            state.loop.call_soon(self._send_chunk)


def _encode_response(body: bytes, kind: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


async def serve_fleet(servers: int, port: int, chunks: int, gap: float, page: bytes) -> None:
    """Serves until cancelled."""
    loop = asyncio.get_running_loop()
    state = FleetState(page, chunks, gap, loop)
    for index in range(servers):
        await loop.create_server(lambda: FleetConnection(state), server_address(index), port, backlog=1024)
    print(f"{servers} servers on port {port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Model servers without a model.")
    parser.add_argument("--servers", type=int, default=10)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=1)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between two chunks")
    parser.add_argument("--page", type=Path, default=METRICS_PAGE, help="content of /metrics")
    args = parser.parse_args()
    uvloop.run(serve_fleet(args.servers, args.port, args.chunks, args.gap, args.page.read_bytes()))


if __name__ == "__main__":
    main()
