"""The `place` of events: `node`, `node/gpu-3`, `node/gpu-3/4-7` (first and last slot of a slice), `local/worker-2`."""

from __future__ import annotations

import re
from typing import NamedTuple

SLOTS_PER_GPU = 8
"""Memory slices of a whole GPU, as MIG counts them on A100, H100 and H200."""
_SLICE_PLACE = re.compile(r"(.+)/(\d+)-(\d+)|(.+/gpu-\d+)/(\d+)")
_DIGITS = re.compile(r"(\d+)")


class DevicePlace(NamedTuple):
    """A device, and the first and last slot of a slice; `slots` is None for the whole device."""

    device: str
    slots: tuple[int, int] | None

    @property
    def is_gpu(self) -> bool:
        """Whether the place names a GPU and not only its node."""
        return "/gpu-" in self.device

    @property
    def is_local(self) -> bool:
        """Whether the device is a worker process of `epp-batch transcribe`."""
        return self.device.startswith("local/")


def parse_place(place: str) -> DevicePlace:
    """Parses a place; text in any other form is the name of a whole device."""
    match = _SLICE_PLACE.fullmatch(place)
    if match is None:
        return DevicePlace(place, None)
    device, first, last = match[1] or match[4], int(match[2] or match[5]), int(match[3] or match[5])
    return DevicePlace(device, (first, last)) if first <= last else DevicePlace(place, None)


def gpu_share_of_place(place: str) -> float | None:
    """Share of a GPU that the place names: slots / 8 of a slice, 0 of a local worker, None of anything else."""
    parsed = parse_place(place)
    if parsed.is_local:
        return 0.0
    return None if parsed.slots is None else (parsed.slots[1] - parsed.slots[0] + 1) / SLOTS_PER_GPU


def natural_sort_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts gpu-2 before gpu-10."""
    parts = _DIGITS.split(text)
    return tuple((0, int(part)) if index % 2 else (1, part) for index, part in enumerate(parts))
