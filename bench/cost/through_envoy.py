"""Measurements of a picker behind real Envoy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from bench.cost.load import Generator, Load
from bench.cost.processes import Neighbours, Stage
from bench.cost.rig import Case, Rig

Numbers = dict[str, float]

LATENCY_ROUNDS = 5
IDLE_SECONDS = 3.0


def requests(case: Case, command: str = "") -> Numbers:
    """CPU of the picker (and of Envoy) for one request under load.

    `cpu_us_per_request` is all that the process used; `net_us_per_request` is less what it uses without any request
    (scrapes, timers), which weighs on each request the more the fewer there are.
    """
    with Stage() as stage:
        rig = Rig(stage, case, command)
        generator = Generator(stage.folder, case.body_bytes)
        generator.run(rig.picked, case.connections, min(2.0, case.seconds / 2))
        idle_cores = _cores(rig, IDLE_SECONDS)
        neighbours = Neighbours(rig.processes)
        before, envoy_before = rig.picker.cpu_seconds(), rig.envoy.cpu_seconds()
        load = generator.run(rig.picked, case.connections, case.seconds)
        cpu, envoy = rig.picker.cpu_seconds() - before, rig.envoy.cpu_seconds() - envoy_before
        found: Numbers = {
            "cpu_us_per_request": cpu / load.requests * 1e6,
            "net_us_per_request": (cpu - idle_cores * load.seconds) / load.requests * 1e6,
            "requests_per_core_second": load.requests / max(cpu, 1e-9),
            "requests_per_second": load.requests / load.seconds,
            "p50_ms": load.p50 * 1e3,
            "p99_ms": load.p99 * 1e3,
            "envoy_cpu_us_per_request": envoy / load.requests * 1e6,
            "rss_mb": rig.picker.rss_bytes() / 1e6,
            "neighbour_cores": neighbours.cores(),
        }
        if case.chunks > 1:
            found["net_us_per_chunk"] = found["net_us_per_request"] / case.chunks
        return found


def _cores(rig: Rig, seconds: float) -> float:
    before, started = rig.picker.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (rig.picker.cpu_seconds() - before) / (time.monotonic() - started)


def idle(case: Case, command: str = "") -> Numbers:
    """Cores used with nothing to do but scrape."""
    with Stage() as stage:
        rig = Rig(stage, case, command)
        time.sleep(2)
        neighbours = Neighbours(rig.processes)
        before, started = rig.counts() or {}, time.monotonic()
        cores = _cores(rig, case.seconds)
        after, ended = rig.counts() or {}, time.monotonic()
        return {
            "cores": cores,
            "scrapes_per_second": (after.get("scrapes", 0) - before.get("scrapes", 0)) / (ended - started),
            "rss_mb": rig.picker.rss_bytes() / 1e6,
            "neighbour_cores": neighbours.cores(),
        }


def latency(case: Case, command: str = "") -> Numbers:
    """What the picker adds to Envoy alone at concurrency 1, and what one that does nothing adds.

    Medians over rounds in which Envoy alone, the floor and the picker take turns.
    """
    with Stage() as stage:
        rig = Rig(stage, case, command)
        generator = Generator(stage.folder, case.body_bytes)
        generator.run(rig.picked, 1, 1)
        neighbours = Neighbours(rig.processes)
        seconds = case.seconds / LATENCY_ROUNDS / len(rig.listeners)
        rounds = [
            {name: generator.run(port, 1, seconds) for name, port in rig.listeners.items()}
            for _ in range(LATENCY_ROUNDS)
        ]
        found: Numbers = {"neighbour_cores": neighbours.cores()}
        for quantile in ("p50", "p99"):
            alone, floor, picked = (_median(rounds, name, quantile) for name in ("direct", "floor", "picked"))
            found |= {
                f"alone_{quantile}_ms": alone,
                f"floor_{quantile}_ms": floor - alone,
                f"picked_{quantile}_ms": picked,
                f"added_{quantile}_ms": picked - alone,
                f"over_floor_{quantile}_ms": picked - floor,
            }
        return found


def _median(rounds: Sequence[Mapping[str, Load]], name: str, quantile: str) -> float:
    """Milliseconds."""
    seconds: list[float] = [getattr(loads[name], quantile) for loads in rounds]
    return statistics.median(seconds) * 1e3
