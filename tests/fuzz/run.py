"""A bounded fuzz run: mutations of valid input, chosen and minimised by Hypothesis.

    python tests/fuzz/run.py [--seconds 30] [--target all] [--seed 1]
    python tests/fuzz/run.py --target http2 --replay <hex>

A target is a module NAME_target.py beside this file with `SEEDS: list[bytes]` and `check(data: bytes) -> None`, which
raises if the input shows a defect. Exit status 1 and the smallest such input in hex if there is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

EXAMPLES_PER_ROUND = 200  # between two checks of the time limit
PHASES = (Phase.generate, Phase.shrink)


def find_targets() -> dict[str, Path]:
    """Target modules by name."""
    return {path.stem.removesuffix("_target"): path for path in sorted(Path(__file__).parent.glob("*_target.py"))}


def load_target(path: Path) -> ModuleType:
    """Imports a target."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@st.composite
def mutated_seeds(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes replaced, inserted, removed or repeated, or with a part of another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["replace", "insert", "remove", "repeat", "splice"])):
            case "replace":
                data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
            case "insert":
                data[start:start] = draw(st.binary(max_size=20))
            case "remove":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end] * draw(st.integers(1, 20))
            case "splice":
                other = draw(st.sampled_from(seeds))
                cut = draw(st.integers(0, len(other)))
                data[start:end] = other[cut : cut + draw(st.integers(0, 200))]
    return bytes(data)


def run_rounds(
    check: Callable[[bytes], None], seeds: list[bytes], until: float, first: int
) -> tuple[int, bytes | None]:
    """Runs examples until `until`; returns their number, and the smallest input that failed."""
    count, failed = 0, b""

    def run_example(data: bytes) -> None:
        nonlocal count, failed
        count += 1
        failed = data
        check(data)

    while time.monotonic() < until:
        limits = settings(
            max_examples=EXAMPLES_PER_ROUND,
            deadline=None,
            database=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        )
        try:
            seed(first)(limits(given(mutated_seeds(seeds))(run_example)))()
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return count, failed
        first += 1
    return count, None


def main() -> int:
    """Runs the chosen targets for equal shares of the time."""
    known = find_targets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--target", choices=[*known, "all"], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", default="", metavar="HEX")
    arguments = parser.parse_args()
    logging.disable()
    names = list(known) if arguments.target == "all" else [arguments.target]
    status = 0
    for name in names:
        target = load_target(known[name])
        if arguments.replay:
            target.check(bytes.fromhex(arguments.replay))
            continue
        until = time.monotonic() + arguments.seconds / len(names)
        count, failed = run_rounds(target.check, target.SEEDS, until, arguments.seed)
        print(f"{name}: {count} inputs", "" if failed is None else f", FAILED on {failed.hex()}", sep="")
        status |= failed is not None
    return status


if __name__ == "__main__":
    sys.exit(main())
