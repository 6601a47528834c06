"""Measurements of a picker behind real Envoy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import msgspec

from bench.cost.load import Generator, Load
from bench.cost.processes import Neighbours, Stage
from bench.cost.rig import Case, Rig

Numbers = dict[str, float]

# CPU of bench.cost.floor for one request of `short` at the pace for which the budgets were set: there a floor on uvloop
# that parses protobuf and JSON used 52 us, of which this one uses 0.55 when both take turns.
FLOOR_US = 28.6
FLOOR_SECONDS = 2.0
TURNS = 5
LATENCY_ROUNDS = 5
IDLE_SECONDS = 3.0


class Spent(msgspec.Struct):
    """Some load on one listener, and the CPU seconds that it took of the picker behind it and of Envoy."""

    load: Load
    picker: float
    envoy: float


def requests(case: Case, command: str = "") -> Numbers:
    """CPU of the picker (and of Envoy) for one request under load.

    `cpu_us_per_request` is all that the process used; `net_us_per_request` is less what it uses without any request
    (scrapes, timers), which weighs on each request the more the fewer there are. Where the case has a floor, picker and
    floor take turns, and `paced_us_per_request` is what the picker would use where the floor uses `FLOOR_US`.
    """
    with Stage() as stage:
        rig = Rig(stage, case, command)
        generator = Generator(stage.folder, case.body_bytes)
        generator.run(rig.picked, case.connections, min(2.0, case.seconds / 2))
        idle_cores = _cores(rig, IDLE_SECONDS)
        neighbours = Neighbours(rig.processes)
        turns, floors, count = [], [], TURNS if case.floor else 1
        for _ in range(count):
            turns.append(_spent(rig, generator, "picked", case.seconds / count))
            if case.floor:
                floors.append(_spent(rig, generator, "floor", FLOOR_SECONDS))
        found = _per_request(turns, idle_cores)
        if floors:
            found["floor_us_per_request"] = floor = _floor(floors)
            found["paced_us_per_request"] = found["cpu_us_per_request"] * FLOOR_US / floor
        if case.chunks > 1:
            found["net_us_per_chunk"] = found["net_us_per_request"] / case.chunks
        return found | {"rss_mb": rig.picker.rss_bytes() / 1e6, "neighbour_cores": neighbours.cores()}


def _floor(turns: Sequence[Spent]) -> float:
    """CPU microseconds of the floor for a request."""
    return max(1.0, sum(turn.picker for turn in turns) / sum(turn.load.requests for turn in turns) * 1e6)


def _spent(rig: Rig, generator: Generator, listener: str, seconds: float) -> Spent:
    picker = rig.pickers[listener]
    before, envoy = picker.cpu_seconds(), rig.envoy.cpu_seconds()
    load = generator.run(rig.listeners[listener], rig.case.connections, seconds)
    return Spent(load, picker.cpu_seconds() - before, rig.envoy.cpu_seconds() - envoy)


def _per_request(turns: Sequence[Spent], idle_cores: float) -> Numbers:
    count = sum(turn.load.requests for turn in turns)
    seconds = sum(turn.load.seconds for turn in turns)
    cpu = sum(turn.picker for turn in turns)
    return {
        "cpu_us_per_request": cpu / count * 1e6,
        "net_us_per_request": (cpu - idle_cores * seconds) / count * 1e6,
        "requests_per_core_second": count / max(cpu, 1e-9),
        "requests_per_second": count / seconds,
        "p50_ms": statistics.median(turn.load.p50 for turn in turns) * 1e3,
        "p99_ms": statistics.median(turn.load.p99 for turn in turns) * 1e3,
        "envoy_cpu_us_per_request": sum(turn.envoy for turn in turns) / count * 1e6,
    }


def _cores(rig: Rig, seconds: float) -> float:
    before, started = rig.picker.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (rig.picker.cpu_seconds() - before) / (time.monotonic() - started)


def idle(case: Case, command: str = "") -> Numbers:
    """Cores used with nothing to do but scrape; `paced_cores` where the floor, loaded just after, uses `FLOOR_US`."""
    with Stage() as stage:
        rig = Rig(stage, case, command)
        generator = Generator(stage.folder, case.body_bytes)
        time.sleep(2)
        neighbours = Neighbours(rig.processes)
        before, started = rig.counts() or {}, time.monotonic()
        cores = _cores(rig, case.seconds)
        after, ended = rig.counts() or {}, time.monotonic()
        with rig.picker.asleep():  # its scrapes would slow the floor down
            floor = _floor([_spent(rig, generator, "floor", FLOOR_SECONDS) for _ in range(2)])
        return {
            "cores": cores,
            "paced_cores": cores * FLOOR_US / floor,
            "scrapes_per_second": (after.get("scrapes", 0) - before.get("scrapes", 0)) / (ended - started),
            "floor_us_per_request": floor,
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
