"""CPU cores and GPUs that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def count_usable_cores(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """CPU cores of the affinity mask, limited by the container's cgroup v2 quota; at least 1."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return max(1, min(usable, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or no quota (`max`)
        return usable


def list_visible_gpus() -> list[str]:
    """The GPUs that CUDA reports, as values for CUDA_VISIBLE_DEVICES; empty without a GPU."""
    import ctranslate2

    count = ctranslate2.get_cuda_device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return named[:count]
