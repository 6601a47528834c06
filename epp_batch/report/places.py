"""What the name of a place says: `node`, `node/gpu-3`, `node/gpu-3/4-7`, `local/worker-2`."""

from __future__ import annotations

import re
from typing import NamedTuple

SLOTS_PER_GPU = 8
"""Of a whole GPU, as MIG counts them on A100, H100 and H200."""
_SLICE_PLACE = re.compile(r"(.+)/(\d+)-(\d+)|(.+/gpu-\d+)/(\d+)")
_DIGITS = re.compile(r"(\d+)")


class DevicePlace(NamedTuple):
    """A device, and the slots of a slice of it; slots are None for the whole of it."""

    device: str
    slots: tuple[int, int] | None

    @property
    def is_gpu(self) -> bool:
        return "/gpu-" in self.device

    @property
    def is_local(self) -> bool:
        return self.device.startswith("local/")


def parse_place(place: str) -> DevicePlace:
    """Never fails: what has another form is a device of that name."""
    found = _SLICE_PLACE.fullmatch(place)
    if found is None:
        return DevicePlace(place, None)
    device, first, last = found[1] or found[4], int(found[2] or found[5]), int(found[3] or found[5])
    return DevicePlace(device, (first, last)) if first <= last else DevicePlace(place, None)


def gpu_share_of_place(place: str) -> float | None:
    """Which part of a GPU; None where the place does not tell."""
    found = parse_place(place)
    if found.is_local:
        return 0.0
    return None if found.slots is None else (found.slots[1] - found.slots[0] + 1) / SLOTS_PER_GPU


def natural_sort_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key with gpu-2 before gpu-10."""
    parts = _DIGITS.split(text)
    return tuple((0, int(part)) if index % 2 else (1, part) for index, part in enumerate(parts))
