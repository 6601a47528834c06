"""MIG profiles and slot maps: which slices fit on a GPU, by position and not by sum.

The tables are NVIDIA's MIG placements, as `nvidia-smi mig -lgipp` prints them ("{0,4}:4" is the starts and the size). A
GPU has 8 memory slices, called slots here, and 7 compute slices; slot 7 belongs to no slice of one slot.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SLOTS_PER_GPU = 8
_SLOT_MASKS = [(1 << size) - 1 for size in range(SLOTS_PER_GPU + 1)]


class MigProfile(NamedTuple):
    """One MIG profile of one GPU model: it occupies `size` slots from one of its `starts`."""

    name: str
    starts: tuple[int, ...]
    size: int
    compute_slices: int
    """Sevenths of the GPU's multiprocessors."""

    def slot_mask(self, start: int) -> int:
        """The slots it occupies from `start`, as bits."""
        return _SLOT_MASKS[self.size] << start


def _seven_slice_profiles(one: int, quarter: int, half: int, whole: int) -> dict[str, MigProfile]:
    """The profiles of a GPU with seven compute slices; arguments are the GB of 1, 2, 4 and 8 slots."""
    profiles = (
        MigProfile(f"1g.{one}gb", (0, 1, 2, 3, 4, 5, 6), 1, 1),
        MigProfile(f"1g.{quarter}gb", (0, 2, 4, 6), 2, 1),
        MigProfile(f"2g.{quarter}gb", (0, 2, 4), 2, 2),
        MigProfile(f"3g.{half}gb", (0, 4), 4, 3),
        MigProfile(f"4g.{half}gb", (0,), 4, 4),
        MigProfile(f"7g.{whole}gb", (0,), 8, 7),
    )
    return {profile.name: profile for profile in profiles}


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
"""By GPU model, then by profile name. An A30 has 4 slots; each counts twice here, so that every GPU has 8."""


def find_profile(gpu_model: str, name: str) -> MigProfile | None:
    """A profile by name, with or without `+me` (MIG manager) or `.me` (device plugin); None if the GPU has none."""
    profiles = MIG_PROFILES.get(gpu_model, {})
    return profiles.get(name) or profiles.get(re.sub(r"(\+|\.)me$", "", name))


def gpu_model_from_product(product: str) -> str:
    """The key of MIG_PROFILES for a label `nvidia.com/gpu.product`; the label itself for a GPU without MIG."""
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
    """The occupied slots of one GPU."""

    __slots__ = ("occupied",)

    def __init__(self, occupied: int = 0) -> None:
        self.occupied = occupied
        """Bit i is slot i."""

    def find_first_fit(self, profile: MigProfile) -> int | None:
        """The first start whose slots are all free.

        DAS's scheduler plugin MigAccelerator does the same, and so does the allocator of DynamicResources with the
        devices in the order in which NVIDIA's DRA driver publishes them.
        """
        occupied, mask = self.occupied, _SLOT_MASKS[profile.size]
        for start in profile.starts:
            if not occupied & mask << start:
                return start
        return None

    def occupy(self, profile: MigProfile, start: int) -> None:
        """Marks the slots of a slice as occupied."""
        self.occupied |= profile.slot_mask(start)

    def release(self, profile: MigProfile, start: int) -> None:
        """Marks the slots of a slice as free."""
        self.occupied &= ~profile.slot_mask(start)

    @property
    def free_slots(self) -> int:
        """Number of slots that are not occupied."""
        return SLOTS_PER_GPU - self.occupied.bit_count()
