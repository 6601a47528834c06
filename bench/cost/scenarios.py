"""The scenarios and their variants: what is measured and for how long."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import msgspec

from bench.cost import through_envoy
from bench.cost.processes import BenchError
from bench.cost.testbed import BenchCase
from bench.cost.through_envoy import Measurements

EXTERNAL_VARIANT = "other picker"


class Measurement(msgspec.Struct, frozen=True):
    """One measurement to make."""

    scenario: str
    variant: str
    measure: Callable[[], Measurements]


class MeasurementResult(msgspec.Struct, frozen=True):
    """Values by name, or the error because of which there are none."""

    scenario: str
    variant: str
    numbers: Measurements
    error: str = ""


SHORT = BenchCase(name="short", floor="extproc")
LONG = BenchCase(name="long", body_bytes=400_000, chunks=300, servers=100, connections=8)
STREAM = BenchCase(name="stream", chunks=200, gap=0.005, connections=64, seconds=15)
IDLE = BenchCase(name="idle", servers=100, floor="extproc")
LATENCY = BenchCase(name="latency", seconds=30, floor="extproc")


def list_measurements(*, quick: bool, transports: Sequence[str], command: str = "") -> list[Measurement]:
    """All measurements; `quick`: a few seconds of load each, and fewer variants. `command`: another picker's."""
    if command:
        return list(_list_external_measurements(quick, command))
    chosen = list(_list_envoy_measurements(quick, transports))
    for servers in (10, 1000):
        rounds = 5_000 if quick else 20_000
        chosen.append(
            Measurement(
                "decision", f"{servers} endpoints", _measure_in_process("decision", servers=servers, rounds=rounds)
            )
        )
    chosen.append(Measurement("memory", "1M prefix blocks", _measure_in_process("prefix", blocks=1_000_000)))
    chosen.append(Measurement("memory", "10k open streams", _measure_open_streams(10_000)))
    return chosen


def _list_envoy_measurements(quick: bool, transports: Sequence[str]) -> Iterator[Measurement]:
    for case, transport, completion in product((SHORT, LONG, STREAM), transports, ("access-log", "extproc")):
        # grpc.aio is for comparison: `short` as a budget compares it, the other cases only if there is time.
        if transport == "native" or (completion == "extproc" if case is SHORT else not quick):
            yield _measurement_under_load(case, quick, completion=completion, transport=transport)
    idle = _with_duration(IDLE, quick)
    yield Measurement("idle", "native", lambda: through_envoy.measure_idle(idle))
    for completion in ("access-log", "extproc"):
        case = msgspec.structs.replace(_with_duration(LATENCY, quick), completion=completion, floor=completion)
        yield Measurement("latency", case.variant, lambda case=case: through_envoy.measure_latency(case))  # type: ignore[misc]


def _list_external_measurements(quick: bool, command: str) -> Iterator[Measurement]:
    for case in (SHORT, LONG, STREAM):
        measure = partial(through_envoy.measure_requests, _with_duration(case, quick), command)
        yield Measurement(case.name, EXTERNAL_VARIANT, measure)
    yield Measurement(
        "idle", EXTERNAL_VARIANT, lambda: through_envoy.measure_idle(_with_duration(IDLE, quick), command)
    )
    yield Measurement(
        "latency", EXTERNAL_VARIANT, lambda: through_envoy.measure_latency(_with_duration(LATENCY, quick), command)
    )


def _measurement_under_load(case: BenchCase, quick: bool, *, completion: str, transport: str) -> Measurement:
    variant = msgspec.structs.replace(_with_duration(case, quick), completion=completion, transport=transport)
    return Measurement(case.name, variant.variant, lambda: through_envoy.measure_requests(variant))


def _with_duration(case: BenchCase, quick: bool) -> BenchCase:
    return msgspec.structs.replace(case, seconds=max(3.0, case.seconds / 4)) if quick else case


def _measure_in_process(name: str, **options: int) -> Callable[[], Measurements]:
    """A measurement of bench.cost.in_process, in a process of its own: the memory of this one would count otherwise."""
    flags = [flag for option, value in options.items() for flag in (f"--{option}", str(value))]

    def measure() -> Measurements:
        command = [sys.executable, "-m", "bench.cost.in_process", name, *flags]
        process = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if process.returncode:
            raise BenchError(f"{' '.join(command[1:])} exited with {process.returncode}:\n{process.stderr}")
        return msgspec.json.decode(process.stdout, type=dict[str, float])

    return measure


def _measure_open_streams(count: int) -> Callable[[], Measurements]:
    def measure() -> Measurements:
        from bench.cost.open_streams import measure_open_streams  # the only measurement that needs grpcio

        return measure_open_streams(count)

    return measure


def run_measurement(measurement: Measurement) -> MeasurementResult:
    """Makes the measurement; a failure becomes a result with `error`."""
    try:
        return MeasurementResult(measurement.scenario, measurement.variant, measurement.measure())
    except (BenchError, OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        return MeasurementResult(measurement.scenario, measurement.variant, {}, str(error) or type(error).__name__)
