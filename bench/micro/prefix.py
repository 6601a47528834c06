"""Prefix index: time of its calls for one request, and memory of a million blocks, against targets.

python -m bench.micro.prefix
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter

import numpy as np

from bench.micro.timing import best_microseconds
from scorers.producers.prefix_index import PrefixIndex, hash_prompt_blocks

BLOCK_BYTES = 256
LONG_PROMPT_BYTES = 400_000
MAX_BLOCKS = 2048
CAPACITY = 31_250


def best_milliseconds(work: Callable[[], object], repeats: int = 50) -> float:
    """Milliseconds of the fastest of some runs."""
    return best_microseconds(work, 1, repeats) / 1e3


def print_row(what: str, value: float, unit: str, target: float) -> None:
    """Prints one line of the table."""
    print(f"{what:<64} {value:>9.3f} {unit}   target {target:g}  {'ok' if value <= target else 'MISSED'}")


def resident_megabytes() -> float:
    """Resident memory of this process, MB; the peak where there is no /proc."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_times() -> None:
    """Times for one 400 KB prompt and 100 endpoints."""
    rng = Random(1)
    prompt = rng.randbytes(LONG_PROMPT_BYTES)
    hashes = hash_prompt_blocks(prompt, BLOCK_BYTES, MAX_BLOCKS, "model", "")
    print_row(
        f"hash 400 KB ({len(hashes)} blocks)",
        best_milliseconds(lambda: hash_prompt_blocks(prompt, BLOCK_BYTES, MAX_BLOCKS, "m", "")),
        "ms",
        0.3,
    )
    print_row(
        "hash 4 KB",
        best_milliseconds(lambda: hash_prompt_blocks(prompt[:4096], BLOCK_BYTES, MAX_BLOCKS, "m", "")),
        "ms",
        0.01,
    )
    slots = np.arange(100)
    index = PrefixIndex()
    for slot in range(100):
        for _ in range(3):
            index.touch(
                slot, hash_prompt_blocks(rng.randbytes(LONG_PROMPT_BYTES), BLOCK_BYTES, MAX_BLOCKS, "m", ""), CAPACITY
            )
    print_row("lookup, no endpoint holds it", best_milliseconds(lambda: index.match_lengths(hashes, slots)), "ms", 0.01)
    for slot in range(100):
        index.touch(
            slot,
            hash_prompt_blocks(prompt[: LONG_PROMPT_BYTES * (slot + 1) // 100], BLOCK_BYTES, MAX_BLOCKS, "model", ""),
            CAPACITY,
        )
    print_row(
        "lookup, 100 endpoints hold 100 different lengths of it",
        best_milliseconds(lambda: index.match_lengths(hashes, slots)),
        "ms",
        1,
    )
    for slot in range(100):
        index.touch(slot, hashes, CAPACITY)
    print_row(
        "lookup, 100 endpoints hold all of it", best_milliseconds(lambda: index.match_lengths(hashes, slots)), "ms", 1
    )
    other = hash_prompt_blocks(rng.randbytes(256), BLOCK_BYTES, MAX_BLOCKS, "m", "")

    def touch_other_then_held() -> None:
        index.touch(5, other, CAPACITY)
        index.touch(5, hashes, CAPACITY)

    print_row(
        "touch 1,563 blocks that are held, but not the newest", best_milliseconds(touch_other_then_held), "ms", 0.4
    )
    print_row(
        "touch 1,563 blocks that are the newest", best_milliseconds(lambda: index.touch(5, hashes, CAPACITY)), "ms", 0.4
    )
    fresh = iter(
        [hash_prompt_blocks(rng.randbytes(LONG_PROMPT_BYTES), BLOCK_BYTES, MAX_BLOCKS, "m", "") for _ in range(100)]
    )
    print_row(
        "touch 1,563 new blocks, median",
        median_milliseconds(lambda: index.touch(7, next(fresh), CAPACITY), 100),
        "ms",
        0.4,
    )
    print_row("remove an endpoint", best_milliseconds(lambda: index.remove_slot(7), 1), "ms", 5)


def median_milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the median run."""
    durations = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        durations.append(perf_counter() - started)
    return sorted(durations)[repeats // 2] * 1e3


def measure_memory(endpoints: int, prompt_bytes: int) -> None:
    """A million blocks of different prompts, in LRUs that have evicted twice their capacity."""
    rng = Random(2)
    capacity = 1_000_000 // endpoints
    index = PrefixIndex()
    gc.collect()
    before = resident_megabytes()
    touched = 0
    while touched < 3_000_000:
        hashes = hash_prompt_blocks(rng.randbytes(prompt_bytes), BLOCK_BYTES, MAX_BLOCKS, "m", "")
        index.touch(rng.randrange(endpoints), hashes, capacity)
        touched += len(hashes)
    now = resident_megabytes()
    what = f"{len(index):,} blocks on {endpoints} endpoints, {prompt_bytes:,} B prompts: process"
    print_row(what, now, "MB", 150)
    print(f"{'  of which more than before it':<64} {now - before:>9.3f} MB")


def main() -> None:
    """Prints times, then memory, each size in a process of its own because memory that was freed stays resident."""
    if len(sys.argv) > 1:
        measure_memory(int(sys.argv[1]), int(sys.argv[2]))
        return
    measure_times()
    for endpoints, prompt_bytes in ((100, 4096), (50, 4096), (32, 4096), (100, LONG_PROMPT_BYTES), (100, 200)):
        subprocess.run([sys.executable, "-m", "bench.micro.prefix", str(endpoints), str(prompt_bytes)], check=True)


if __name__ == "__main__":
    main()
