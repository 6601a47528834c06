"""MIG slot maps: which slices fit on which GPU, by bitmap rather than by sum.

A GPU that can be sliced has 8 memory slots, of which slot 7 belongs to no 1-slot slice (NVIDIA's MIG placements, as
`nvidia-smi mig -lgipp` prints them). A profile occupies `size` slots from one of its `starts`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from epp_batch.errors import InputError

SLOTS_PER_GPU = 8
_SLOT_MASKS = [(1 << size) - 1 for size in range(SLOTS_PER_GPU + 1)]


class MigProfile(NamedTuple):
    """One slice shape of one GPU model."""

    name: str
    starts: tuple[int, ...]
    size: int
    compute_slices: int
    """Sevenths of the GPU's multiprocessors."""

    def slot_mask(self, start: int) -> int:
        """The slots it takes, as bits."""
        return _SLOT_MASKS[self.size] << start


def _seven_slice_profiles(one: int, quarter: int, half: int, whole: int) -> dict[str, MigProfile]:
    """The profiles of a GPU in seven parts, by the GB of each size."""
    shapes = (
        MigProfile(f"1g.{one}gb", (0, 1, 2, 3, 4, 5, 6), 1, 1),
        MigProfile(f"1g.{quarter}gb", (0, 2, 4, 6), 2, 1),
        MigProfile(f"2g.{quarter}gb", (0, 2, 4), 2, 2),
        MigProfile(f"3g.{half}gb", (0, 4), 4, 3),
        MigProfile(f"4g.{half}gb", (0,), 4, 4),
        MigProfile(f"7g.{whole}gb", (0,), 8, 7),
    )
    return {shape.name: shape for shape in shapes}


_A30_PROFILES = {
    profile.name: profile
    for profile in (
        MigProfile("1g.6gb", (0, 2, 4, 6), 2, 1),
        MigProfile("2g.12gb", (0, 4), 4, 2),
        MigProfile("4g.24gb", (0,), 8, 4),
    )
}

MIG_PROFILES: dict[str, dict[str, MigProfile]] = {
    "A100-40": _seven_slice_profiles(5, 10, 20, 40),
    "A100-80": _seven_slice_profiles(10, 20, 40, 80),
    "H100-80": _seven_slice_profiles(10, 20, 40, 80),
    "H100-94": _seven_slice_profiles(12, 24, 47, 94),
    "H100-96": _seven_slice_profiles(12, 24, 48, 96),
    "H200-141": _seven_slice_profiles(18, 35, 71, 141),
    "A30": _A30_PROFILES,
}
"""By GPU model. A30 has four slots of its own; they count double here, so that every map has eight."""


def find_profile(gpu: str, name: str) -> MigProfile | None:
    """A profile by name, as the MIG manager (`1g.5gb+me`) or the device plugin (`1g.5gb.me`) writes it."""
    there = MIG_PROFILES.get(gpu, {})
    return there.get(name) or there.get(re.sub(r"(\+|\.)me$", "", name))


def require_profile(gpu: str, name: str) -> MigProfile:
    """The same; an InputError that lists what there is, when the GPU has no such slice."""
    if gpu not in MIG_PROFILES:
        raise InputError(f"GPU model {gpu!r} cannot be sliced", remedy=f"known are {', '.join(MIG_PROFILES)}")
    found = find_profile(gpu, name)
    if found is None:
        raise InputError(f"{gpu} has no slice {name!r}", remedy=f"it has {', '.join(MIG_PROFILES[gpu])}")
    return found


def gpu_model_from_product(product: str) -> str:
    """Our name of a GPU from the label `nvidia.com/gpu.product`; the text itself when it is none that can be sliced."""
    if product in MIG_PROFILES:
        return product
    size = re.search(r"(\d+)GB", product)
    families = (name for name in ("H200", "H100", "A100", "A30") if name in product)
    family = "H100" if "GH200" in product else next(families, "")
    models = [name for name in MIG_PROFILES if name.split("-")[0] == family]
    exact = f"{family}-{size[1]}" if size else ""
    if exact in models or not models:
        return exact or product
    return models[0]


class SlotMap:
    """What is taken on one GPU."""

    __slots__ = ("occupied",)

    def __init__(self, taken: int = 0) -> None:
        self.occupied = taken

    def find_first_fit(self, wanted: MigProfile) -> int | None:
        """The first start at which it fits: what DAS's scheduler plugin and a DRA driver's device order both do."""
        taken, mask = self.occupied, _SLOT_MASKS[wanted.size]
        for start in wanted.starts:
            if not taken & mask << start:
                return start
        return None

    def occupy(self, wanted: MigProfile, start: int) -> None:
        self.occupied |= wanted.slot_mask(start)

    def release(self, wanted: MigProfile, start: int) -> None:
        self.occupied &= ~wanted.slot_mask(start)

    @property
    def free_slots(self) -> int:
        """Slots that nobody has."""
        return SLOTS_PER_GPU - self.occupied.bit_count()
