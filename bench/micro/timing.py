"""Timing shared by the microbenchmarks."""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat


def best_microseconds(work: Callable[[], object], calls: int, rounds: int = 10) -> float:
    """Microseconds per call, in the fastest of some rounds of `calls` calls: other processes slow the others down."""
    return min(repeat(work, number=calls, repeat=rounds)) / calls * 1e6


def print_time(name: str, work: Callable[[], object], calls: int, target: float | None = None) -> None:
    """Prints `best_microseconds`, and whether the target is met if there is one."""
    best = best_microseconds(work, calls)
    verdict = "" if target is None else f"   target {target:g}  {'ok' if best <= target else 'MISSED'}"
    print(f"{name:<48} {best:>9.2f} us{verdict}")
