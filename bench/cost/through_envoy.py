"""Measurements of the picker behind real Envoy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import msgspec

from bench.cost.load import LoadGenerator, LoadResult
from bench.cost.processes import NeighbourCpu, ProcessStack
from bench.cost.testbed import BenchCase, Testbed

Measurements = dict[str, float]

# CPU of bench.cost.floor per request of `short` at the machine speed for which the budgets were set. Derived: a floor
# on uvloop that parses protobuf and JSON used 52 us there, and this one uses 0.55 of that when both take turns.
REFERENCE_FLOOR_US = 28.6
FLOOR_SECONDS = 2.0
TURNS = 5
LATENCY_ROUNDS = 5
IDLE_SECONDS = 3.0


class CpuUsage(msgspec.Struct):
    """Load on one listener, and the CPU seconds used meanwhile by the picker behind it and by Envoy."""

    load: LoadResult
    picker_seconds: float
    envoy_seconds: float


def measure_requests(case: BenchCase, command: str = "") -> Measurements:
    """CPU of the picker (and of Envoy) per request under load.

    `cpu_us_per_request` is everything that the process used; `net_us_per_request` is without what it uses when idle
    (scrapes, timers), which counts the more per request the fewer requests there are. If the case has a floor, picker
    and floor take turns, and `paced_us_per_request` is scaled to a floor of REFERENCE_FLOOR_US.
    """
    with ProcessStack() as stack:
        testbed = Testbed(stack, case, command)
        generator = LoadGenerator(stack.folder, case.body_bytes)
        generator.run(testbed.gateway_port, case.connections, min(2.0, case.seconds / 2))
        idle_cores = _measure_cores(testbed, IDLE_SECONDS)
        neighbours = NeighbourCpu(testbed.processes)
        turns, floors, count = [], [], TURNS if case.floor else 1
        for _ in range(count):
            turns.append(_measure_turn(testbed, generator, "picked", case.seconds / count))
            if case.floor:
                floors.append(_measure_turn(testbed, generator, "floor", FLOOR_SECONDS))
        values = _summarize_turns(turns, idle_cores)
        if floors:
            values["floor_us_per_request"] = floor = _floor_cpu_us(floors)
            values["paced_us_per_request"] = values["cpu_us_per_request"] * REFERENCE_FLOOR_US / floor
        if case.chunks > 1:
            values["net_us_per_chunk"] = values["net_us_per_request"] / case.chunks
        return values | {"rss_mb": testbed.picker.rss_bytes() / 1e6, "neighbour_cores": neighbours.average_cores()}


def _floor_cpu_us(turns: Sequence[CpuUsage]) -> float:
    """CPU microseconds of the floor per request."""
    return max(1.0, sum(turn.picker_seconds for turn in turns) / sum(turn.load.requests for turn in turns) * 1e6)


def _measure_turn(testbed: Testbed, generator: LoadGenerator, listener: str, seconds: float) -> CpuUsage:
    picker = testbed.pickers[listener]
    before, envoy = picker.cpu_seconds(), testbed.envoy.cpu_seconds()
    load = generator.run(testbed.listeners[listener], testbed.case.connections, seconds)
    return CpuUsage(load, picker.cpu_seconds() - before, testbed.envoy.cpu_seconds() - envoy)


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


def _measure_cores(testbed: Testbed, seconds: float) -> float:
    before, started = testbed.picker.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (testbed.picker.cpu_seconds() - before) / (time.monotonic() - started)


def measure_idle(case: BenchCase, command: str = "") -> Measurements:
    """Cores used without requests; `paced_cores` is scaled to a floor of REFERENCE_FLOOR_US, measured right after."""
    with ProcessStack() as stack:
        testbed = Testbed(stack, case, command)
        generator = LoadGenerator(stack.folder, case.body_bytes)
        time.sleep(2)
        neighbours = NeighbourCpu(testbed.processes)
        before, started = testbed.fetch_counts() or {}, time.monotonic()
        cores = _measure_cores(testbed, case.seconds)
        after, ended = testbed.fetch_counts() or {}, time.monotonic()
        with testbed.picker.paused():  # its scrapes would slow down the floor
            floor = _floor_cpu_us([_measure_turn(testbed, generator, "floor", FLOOR_SECONDS) for _ in range(2)])
        return {
            "cores": cores,
            "paced_cores": cores * REFERENCE_FLOOR_US / floor,
            "scrapes_per_second": (after.get("scrapes", 0) - before.get("scrapes", 0)) / (ended - started),
            "floor_us_per_request": floor,
            "rss_mb": testbed.picker.rss_bytes() / 1e6,
            "neighbour_cores": neighbours.average_cores(),
        }


def measure_latency(case: BenchCase, command: str = "") -> Measurements:
    """Latency that the picker adds to Envoy alone at concurrency 1, and that the floor adds.

    Medians over rounds in which Envoy alone, the floor and the picker take turns.
    """
    with ProcessStack() as stack:
        testbed = Testbed(stack, case, command)
        generator = LoadGenerator(stack.folder, case.body_bytes)
        generator.run(testbed.gateway_port, 1, 1)
        neighbours = NeighbourCpu(testbed.processes)
        seconds = case.seconds / LATENCY_ROUNDS / len(testbed.listeners)
        rounds = [
            {name: generator.run(port, 1, seconds) for name, port in testbed.listeners.items()}
            for _ in range(LATENCY_ROUNDS)
        ]
        values: Measurements = {"neighbour_cores": neighbours.average_cores()}
        for quantile in ("p50", "p99"):
            alone, floor, picked = (_median_ms(rounds, name, quantile) for name in ("direct", "floor", "picked"))
            values |= {
                f"alone_{quantile}_ms": alone,
                f"floor_{quantile}_ms": floor - alone,
                f"picked_{quantile}_ms": picked,
                f"added_{quantile}_ms": picked - alone,
                f"over_floor_{quantile}_ms": picked - floor,
            }
        return values


def _median_ms(rounds: Sequence[Mapping[str, LoadResult]], name: str, quantile: str) -> float:
    """Median over the rounds of a quantile of one listener, in milliseconds."""
    seconds: list[float] = [getattr(loads[name], quantile) for loads in rounds]
    return statistics.median(seconds) * 1e3
