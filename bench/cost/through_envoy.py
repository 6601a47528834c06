"""Measurements of a picker behind real Envoy."""

from __future__ import annotations

import statistics
import time

from bench.cost.load import Generator
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
    """What the picker adds to Envoy alone at concurrency 1: medians over rounds that alternate between both."""
    with Stage() as stage:
        rig = Rig(stage, case, command)
        generator = Generator(stage.folder, case.body_bytes)
        generator.run(rig.picked, 1, 1)
        neighbours = Neighbours(rig.processes)
        rounds = [
            [generator.run(port, 1, case.seconds / LATENCY_ROUNDS / 2) for port in (rig.direct, rig.picked)]
            for _ in range(LATENCY_ROUNDS)
        ]
        alone = [pair[0] for pair in rounds]
        picked = [pair[1] for pair in rounds]
        found: Numbers = {"neighbour_cores": neighbours.cores()}
        for name in ("p50", "p99"):
            without = statistics.median(getattr(load, name) for load in alone) * 1e3
            through = statistics.median(getattr(load, name) for load in picked) * 1e3
            found |= {f"alone_{name}_ms": without, f"picked_{name}_ms": through, f"added_{name}_ms": through - without}
        return found
