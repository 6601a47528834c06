"""The load generator used if wrk is not installed: closed loop, one request at a time on each connection.

python -m bench.cost.client http://127.0.0.1:8081/v1/chat/completions --bodies FILE --connections 16 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.cost.load import LoadResult
from bench.cost.processes import BenchError


def build_requests(url: str, lines: list[str]) -> list[bytes]:
    """HTTP/1.1 requests with these JSON bodies."""
    parts = urlsplit(url)
    return [
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(line.encode())}\r\n\r\n{line}".encode()
        for line in lines
    ]


async def send_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Sends one request and reads the whole response. Raises BenchError if its status is not 2xx."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise BenchError(head.split(b"\r\n", 1)[0].decode())
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
        return
    await reader.readexactly(int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))


async def run_connection(url: str, requests: Iterator[bytes], until: float) -> list[float]:
    """Sends requests on one connection until the time `until`; latency of each in seconds."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    latencies = []
    try:
        while (started := perf_counter()) < until:
            async with asyncio.timeout(30):
                await send_request(reader, writer, next(requests))
            latencies.append(perf_counter() - started)
    finally:
        writer.close()
    return latencies


async def run_load(url: str, lines: list[str], connections: int, seconds: float) -> LoadResult:
    """Sends the bodies in turn over all connections. Raises BenchError if there was no response."""
    requests = cycle(build_requests(url, lines))
    started = perf_counter()
    per_connection = await asyncio.gather(
        *(run_connection(url, requests, started + seconds) for _ in range(connections))
    )
    latencies = sorted(value for values in per_connection for value in values)
    if not latencies:
        raise BenchError("no response in time")
    count = len(latencies)
    return LoadResult(count, perf_counter() - started, latencies[count // 2], latencies[count * 99 // 100])


def main() -> int:
    """The command: prints a LoadResult as JSON."""
    parser = argparse.ArgumentParser(description="A closed-loop HTTP load generator.")
    parser.add_argument("url")
    parser.add_argument("--bodies", type=Path, required=True, help="file with one request body per line")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    try:
        load = uvloop.run(run_load(args.url, args.bodies.read_text().splitlines(), args.connections, args.seconds))
    except (BenchError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        print(error, file=sys.stderr)
        return 1
    print(msgspec.json.encode(load).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
