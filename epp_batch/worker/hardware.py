"""What this machine lets us use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def count_usable_cores(limit: Path = CGROUP_CPU_MAX) -> int:
    """Cores that we may keep busy, at least 1: those we may run on, or fewer where a container has a quota."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = limit.read_text().split()
        return max(1, min(usable, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or `max`
        return usable


def list_visible_gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES, one a GPU that we may use; empty without any."""
    import ctranslate2

    count = ctranslate2.get_cuda_device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return named[:count]
