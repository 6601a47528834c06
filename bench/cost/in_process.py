"""Measurements within one process: the decision alone, and the memory of the prefix index.

python -m bench.cost.in_process decision --servers 1000
python -m bench.cost.in_process prefix --blocks 1000000
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from random import Random
from time import perf_counter_ns

import msgspec

from bench.cost.load import REQUEST_PATH, build_bodies
from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    KV_CACHE_USAGE,
    RUNNING_REQUESTS,
    SCRAPED_COLUMNS,
    WAITING_REQUESTS,
    Endpoint,
)
from epp.clock import SystemClock
from epp.config import presets
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.datastore.endpoint_store import ColumnWriter, EndpointStore
from epp.datastore.ledger import Ledger
from epp.obs.admin import read_resident_bytes
from epp.obs.decision_log import DecisionLog
from epp.obs.metrics import Metrics
from epp.requestcontrol.completion import Completion, ObservedCompletion
from epp.requestcontrol.director import Director, DirectorOptions
from epp.requestcontrol.interfaces import RequestHeaders, RoutingDecision
from scorers.producers.prefix_index import PrefixIndex

HEADERS = {":method": "POST", ":path": REQUEST_PATH, ":authority": "gateway", "content-type": "application/json"}
DECISIONS_PER_SCRAPE = 10
INFLIGHT_REQUESTS = 64


def _build_store(servers: int, clock: SystemClock, rng: Random) -> tuple[EndpointStore, ColumnWriter]:
    store = EndpointStore(clock, staleness=1e9)
    writer = store.create_writer(SCRAPED_COLUMNS)
    for i in range(servers):
        store.upsert(
            Endpoint(f"default/pod-{i}-rank-0", f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", 8000, pod=f"pod-{i}")
        )
        record_random_scrape(writer, i, clock, rng)
    return store, writer


def record_random_scrape(writer: ColumnWriter, slot: int, clock: SystemClock, rng: Random) -> None:
    """Records a scrape of one endpoint with random values."""
    values = {
        WAITING_REQUESTS: float(rng.randrange(8)),
        RUNNING_REQUESTS: float(rng.randrange(64)),
        KV_CACHE_USAGE: rng.random(),
        KV_BLOCK_SIZE: 16.0,
        KV_BLOCK_COUNT: 30_000.0,
    }
    writer.record(slot, 0, clock.now(), values, None)


def create_director(
    servers: int, clock: SystemClock, rng: Random, completion: Completion | None = None
) -> tuple[Director, ColumnWriter]:
    """A director with llm-d's default scorers, and the writer of the store that it reads."""
    store, writer = _build_store(servers, clock, rng)
    director = Director(
        load_config(presets.read_preset("llm-d"), PluginRegistry.load()),
        store,
        Ledger(clock),
        completion or ObservedCompletion(),
        Metrics(),
        clock,
        rng,
        DirectorOptions(),
        DecisionLog().record,
    )
    return director, writer


def measure_decision(servers: int, rounds: int, body_bytes: int = 4096) -> dict[str, float]:
    """Microseconds of `Director.route_request`: parsing, prefix lookup, scorers, picker, reservation.

    For a 4 KB request and llm-d's default scorers. A scrape arrives between every ten decisions, so the snapshot is
    rebuilt as often; it is recorded outside of the measured time. Requests end in order of arrival, with 64 in flight.
    """
    clock, rng = SystemClock(), Random(1)
    director, writer = create_director(servers, clock, rng)
    headers, bodies = RequestHeaders(HEADERS), [body.encode() for body in build_bodies(body_bytes, 64)]
    durations, inflight = [], []
    for i in range(rounds):
        if i % DECISIONS_PER_SCRAPE == 0:
            record_random_scrape(writer, rng.randrange(servers), clock, rng)
        body = bodies[i % len(bodies)]
        started = perf_counter_ns()
        decision = director.route_request(headers, body)
        durations.append(perf_counter_ns() - started)
        assert isinstance(decision, RoutingDecision), "no producer of this configuration is asynchronous"
        inflight.append(decision.request)
        if len(inflight) > INFLIGHT_REQUESTS:
            inflight.pop(0).finalize("completed")
    warm = durations[rounds // 10 :]
    return {"mean_us": statistics.fmean(warm) / 1e3, "p50_us": statistics.median(warm) / 1e3}


def measure_prefix_index(blocks: int) -> dict[str, float]:
    """Resident memory of a prefix index with this number of blocks: 100 endpoints, chains of 64."""
    index, rng = PrefixIndex(), Random(1)
    index.touch(0, [rng.getrandbits(63) for _ in range(64)], 64)
    gc.collect()
    before = read_resident_bytes()
    capacity = blocks // 100
    for turn in range(blocks // 64):
        index.touch(turn % 100, [rng.getrandbits(63) for _ in range(64)], capacity)
    gc.collect()
    return {"blocks": len(index), "added_mb": (read_resident_bytes() - before) / 1e6}


def main() -> int:
    """The command; prints the measurements as JSON."""
    parser = argparse.ArgumentParser(description="Measurements within one process.")
    parser.add_argument("measurement", choices=("decision", "prefix"))
    parser.add_argument("--servers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    args = parser.parse_args()
    if args.measurement == "decision":
        results = measure_decision(args.servers, args.rounds)
    else:
        results = measure_prefix_index(args.blocks)
    print(msgspec.json.encode(results).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
