"""CPU time of scraping in an otherwise idle process: N endpoints, each a 70 KB page of a real vLLM every 50 ms.

    python -m bench.micro.scrape [--endpoints 100] [--seconds 10] [--interval 0.05]

The fleet is a process of its own: one uvloop server per endpoint on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import cast

import uvloop

from epp.clock import SystemClock
from epp.config.plan import PlannedDataSource
from epp.datalayer.discovery.static import StaticDiscovery
from epp.datalayer.runtime import DataLayer
from epp.datalayer.scrape.engine_metrics import CoreMetricsExtractor
from epp.datalayer.scrape.metrics_data_source import MetricsDataSource
from epp.datastore.endpoint_store import EndpointStore

PAGE = Path(__file__).parents[2] / "tests/data/vllm/metrics_under_load.txt"
WARM_UP_SECONDS = 1.0


class MetricsPageServer(asyncio.Protocol):
    """Answers each read with the page."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._reply)


async def serve_fleet(count: int) -> None:
    """Runs the servers of the fleet process: prints their ports, then serves until its standard input closes."""
    page = PAGE.read_bytes()
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(page) + page
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: MetricsPageServer(reply), "127.0.0.1", 0) for _ in range(count)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def run_fleet(count: int) -> Iterator[list[int]]:
    """Starts the fleet process; yields its ports."""
    command = [sys.executable, "-m", "bench.micro.scrape", "--serve", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


async def measure_scraping(ports: list[int], seconds: float, interval: float) -> dict[str, float]:
    """Cores, scrapes a second, microseconds a scrape, of which in the kernel, and resident megabytes."""
    clock = SystemClock()
    store = EndpointStore(clock)
    scrapes = 0

    def count(slot: int, started: float) -> None:
        nonlocal scrapes
        scrapes += 1

    store.on_scraped(count)
    planned = PlannedDataSource("metrics", MetricsDataSource(), [("core", CoreMetricsExtractor())])
    discovery = StaticDiscovery(targets=[f"127.0.0.1:{port}" for port in ports])
    data_layer = DataLayer(
        store,
        clock,
        Random(1),
        refresh_interval=interval,
        discoveries=[("bench", discovery)],
        data_sources=[planned],
    )
    await data_layer.start()
    await asyncio.sleep(WARM_UP_SECONDS)
    gc.freeze()
    scrapes, before, begun = 0, os.times(), time.perf_counter()
    await asyncio.sleep(seconds)
    after, elapsed, counted = os.times(), time.perf_counter() - begun, scrapes
    await data_layer.close()
    used = after.user + after.system - before.user - before.system
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {
        "cores": round(used / elapsed, 4),
        "scrapes_per_second": round(counted / elapsed, 1),
        "us_per_scrape": round(used / max(1, counted) * 1e6, 1),
        "us_in_kernel": round((after.system - before.system) / max(1, counted) * 1e6, 1),
        "resident_mb": round(resident, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--interval", type=float, default=0.05)
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve_fleet(arguments.serve))
        return
    with run_fleet(arguments.endpoints) as ports:
        print(json.dumps(uvloop.run(measure_scraping(ports, arguments.seconds, arguments.interval))))


if __name__ == "__main__":
    main()
