"""What is measured, in which variants, and for how long."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bench.cost import through_envoy
from bench.cost.processes import BenchError
from bench.cost.rig import Case
from bench.cost.through_envoy import Numbers

OTHER = "other picker"


class Run(msgspec.Struct, frozen=True):
    """One measurement to make. `external`: it makes sense for a picker that is not ours."""

    scenario: str
    variant: str
    measure: Callable[[], Numbers]
    external: bool = False


class Result(msgspec.Struct, frozen=True):
    """What came of it; `error` says why nothing did."""

    scenario: str
    variant: str
    numbers: Numbers
    error: str = ""


SHORT = Case(name="short", floor="extproc")
LONG = Case(name="long", body_bytes=400_000, chunks=300, servers=100, connections=8)
STREAM = Case(name="stream", chunks=200, gap=0.005, connections=64, seconds=15)
IDLE = Case(name="idle", servers=100, floor="extproc")
LATENCY = Case(name="latency", seconds=30, floor="extproc")


def runs(*, quick: bool, transports: Sequence[str], command: str = "") -> list[Run]:
    """All measurements; `quick`: a few seconds of load each, and fewer variants. `command`: another picker's."""
    if command:
        return list(_external(quick, command))
    chosen = list(_behind_envoy(quick, transports))
    for servers in (10, 1000):
        rounds = 5_000 if quick else 20_000
        chosen.append(Run("decision", f"{servers} endpoints", _inside("decision", servers=servers, rounds=rounds)))
    chosen.append(Run("memory", "1M prefix blocks", _inside("prefix", blocks=1_000_000)))
    chosen.append(Run("memory", "10k open streams", _streams(10_000)))
    return chosen


def _behind_envoy(quick: bool, transports: Sequence[str]) -> Iterator[Run]:
    for case in (SHORT, LONG, STREAM):
        for transport in transports:
            paired = case is SHORT and transport != "native"
            if transport != "native" and not paired and quick:
                continue
            for completion in ("access-log", "extproc"):
                if paired and completion == "access-log":
                    continue
                yield _under_load(case, quick, completion=completion, transport=transport)
    idle = _timed(IDLE, quick)
    yield Run("idle", "native", lambda: through_envoy.idle(idle))
    for completion in ("access-log", "extproc"):
        case = msgspec.structs.replace(_timed(LATENCY, quick), completion=completion, floor=completion)
        yield Run("latency", case.variant, lambda case=case: through_envoy.latency(case))  # type: ignore[misc]


def _external(quick: bool, command: str) -> Iterator[Run]:
    for case in (SHORT, LONG, STREAM):
        timed = _timed(case, quick)
        yield Run(case.name, OTHER, lambda timed=timed: through_envoy.requests(timed, command))  # type: ignore[misc]
    yield Run("idle", OTHER, lambda: through_envoy.idle(_timed(IDLE, quick), command))
    yield Run("latency", OTHER, lambda: through_envoy.latency(_timed(LATENCY, quick), command))


def _under_load(case: Case, quick: bool, *, completion: str, transport: str) -> Run:
    made = msgspec.structs.replace(_timed(case, quick), completion=completion, transport=transport)
    return Run(case.name, made.variant, lambda: through_envoy.requests(made))


def _timed(case: Case, quick: bool) -> Case:
    return msgspec.structs.replace(case, seconds=max(3.0, case.seconds / 4)) if quick else case


def _inside(what: str, **options: int) -> Callable[[], Numbers]:
    """Runs in a process of its own: memory is then that of the thing measured."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def measure() -> Numbers:
        command = [sys.executable, "-m", "bench.cost.inside", what, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr}")
        return msgspec.json.decode(done.stdout, type=dict[str, float])

    return measure


def _streams(count: int) -> Callable[[], Numbers]:
    def measure() -> Numbers:
        from bench.cost.streams import open_streams  # grpcio is needed for this one only

        return open_streams(count)

    return measure


def make(run: Run) -> Result:
    """Measures; a failure is a result too."""
    try:
        return Result(run.scenario, run.variant, run.measure())
    except (BenchError, OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        return Result(run.scenario, run.variant, {}, str(error) or type(error).__name__)
