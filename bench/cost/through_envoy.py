"""Measurements of a picker behind real Envoy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import msgspec

from bench.cost.load import LoadGenerator, LoadResult
from bench.cost.processes import NeighbourCpu, ProcessStack
from bench.cost.testbed import BenchCase, Testbed

Measurements = dict[str, float]

# CPU of bench.cost.floor for one request of `short` at the pace for which the budgets were set: there a floor on uvloop
# that parses protobuf and JSON used 52 us, of which this one uses 0.55 when both take turns.
REFERENCE_FLOOR_US = 28.6
FLOOR_SECONDS = 2.0
TURNS = 5
LATENCY_ROUNDS = 5
IDLE_SECONDS = 3.0


class CpuUsage(msgspec.Struct):
    """Some load on one listener, and the CPU seconds that it took of the picker behind it and of Envoy."""

    load: LoadResult
    picker_seconds: float
    envoy_seconds: float


def measure_requests(case: BenchCase, command: str = "") -> Measurements:
    """CPU of the picker (and of Envoy) for one request under load.

    `cpu_us_per_request` is all that the process used; `net_us_per_request` is less what it uses without any request
    (scrapes, timers), which weighs on each request the more the fewer there are. Where the case has a floor, picker and
    floor take turns, and `paced_us_per_request` is what the picker would use where the floor uses `FLOOR_US`.
    """
    with ProcessStack() as stage:
        rig = Testbed(stage, case, command)
        generator = LoadGenerator(stage.folder, case.body_bytes)
        generator.run(rig.gateway_port, case.connections, min(2.0, case.seconds / 2))
        idle_cores = _measure_cores(rig, IDLE_SECONDS)
        neighbours = NeighbourCpu(rig.processes)
        turns, floors, count = [], [], TURNS if case.floor else 1
        for _ in range(count):
            turns.append(_measure_turn(rig, generator, "picked", case.seconds / count))
            if case.floor:
                floors.append(_measure_turn(rig, generator, "floor", FLOOR_SECONDS))
        found = _summarize_turns(turns, idle_cores)
        if floors:
            found["floor_us_per_request"] = floor = _floor_cpu_us(floors)
            found["paced_us_per_request"] = found["cpu_us_per_request"] * REFERENCE_FLOOR_US / floor
        if case.chunks > 1:
            found["net_us_per_chunk"] = found["net_us_per_request"] / case.chunks
        return found | {"rss_mb": rig.picker.rss_bytes() / 1e6, "neighbour_cores": neighbours.average_cores()}


def _floor_cpu_us(turns: Sequence[CpuUsage]) -> float:
    """CPU microseconds of the floor for a request."""
    return max(1.0, sum(turn.picker_seconds for turn in turns) / sum(turn.load.requests for turn in turns) * 1e6)


def _measure_turn(rig: Testbed, generator: LoadGenerator, listener: str, seconds: float) -> CpuUsage:
    picker = rig.pickers[listener]
    before, envoy = picker.cpu_seconds(), rig.envoy.cpu_seconds()
    load = generator.run(rig.listeners[listener], rig.case.connections, seconds)
    return CpuUsage(load, picker.cpu_seconds() - before, rig.envoy.cpu_seconds() - envoy)


def _summarize_turns(turns: Sequence[CpuUsage], idle_cores: float) -> Measurements:
    count = sum(turn.load.requests for turn in turns)
    seconds = sum(turn.load.seconds for turn in turns)
    cpu = sum(turn.picker_seconds for turn in turns)
    return {
        "cpu_us_per_request": cpu / count * 1e6,
        "net_us_per_request": (cpu - idle_cores * seconds) / count * 1e6,
        "requests_per_core_second": count / max(cpu, 1e-9),
        "requests_per_second": count / seconds,
        "p50_ms": statistics.median(turn.load.p50 for turn in turns) * 1e3,
        "p99_ms": statistics.median(turn.load.p99 for turn in turns) * 1e3,
        "envoy_cpu_us_per_request": sum(turn.envoy_seconds for turn in turns) / count * 1e6,
    }


def _measure_cores(rig: Testbed, seconds: float) -> float:
    before, started = rig.picker.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (rig.picker.cpu_seconds() - before) / (time.monotonic() - started)


def measure_idle(case: BenchCase, command: str = "") -> Measurements:
    """Cores used with nothing to do but scrape; `paced_cores` where the floor, loaded just after, uses `FLOOR_US`."""
    with ProcessStack() as stage:
        rig = Testbed(stage, case, command)
        generator = LoadGenerator(stage.folder, case.body_bytes)
        time.sleep(2)
        neighbours = NeighbourCpu(rig.processes)
        before, started = rig.fetch_counts() or {}, time.monotonic()
        cores = _measure_cores(rig, case.seconds)
        after, ended = rig.fetch_counts() or {}, time.monotonic()
        with rig.picker.paused():  # its scrapes would slow the floor down
            floor = _floor_cpu_us([_measure_turn(rig, generator, "floor", FLOOR_SECONDS) for _ in range(2)])
        return {
            "cores": cores,
            "paced_cores": cores * REFERENCE_FLOOR_US / floor,
            "scrapes_per_second": (after.get("scrapes", 0) - before.get("scrapes", 0)) / (ended - started),
            "floor_us_per_request": floor,
            "rss_mb": rig.picker.rss_bytes() / 1e6,
            "neighbour_cores": neighbours.average_cores(),
        }


def measure_latency(case: BenchCase, command: str = "") -> Measurements:
    """What the picker adds to Envoy alone at concurrency 1, and what one that does nothing adds.

    Medians over rounds in which Envoy alone, the floor and the picker take turns.
    """
    with ProcessStack() as stage:
        rig = Testbed(stage, case, command)
        generator = LoadGenerator(stage.folder, case.body_bytes)
        generator.run(rig.gateway_port, 1, 1)
        neighbours = NeighbourCpu(rig.processes)
        seconds = case.seconds / LATENCY_ROUNDS / len(rig.listeners)
        rounds = [
            {name: generator.run(port, 1, seconds) for name, port in rig.listeners.items()}
            for _ in range(LATENCY_ROUNDS)
        ]
        found: Measurements = {"neighbour_cores": neighbours.average_cores()}
        for quantile in ("p50", "p99"):
            alone, floor, picked = (_median_ms(rounds, name, quantile) for name in ("direct", "floor", "picked"))
            found |= {
                f"alone_{quantile}_ms": alone,
                f"floor_{quantile}_ms": floor - alone,
                f"picked_{quantile}_ms": picked,
                f"added_{quantile}_ms": picked - alone,
                f"over_floor_{quantile}_ms": picked - floor,
            }
        return found


def _median_ms(rounds: Sequence[Mapping[str, LoadResult]], name: str, quantile: str) -> float:
    """Milliseconds."""
    seconds: list[float] = [getattr(loads[name], quantile) for loads in rounds]
    return statistics.median(seconds) * 1e3
