"""MIG slot maps: which slices fit on which GPU, by bitmap rather than by sum.

A GPU that can be sliced has 8 memory slots, of which slot 7 belongs to no 1-slot slice (NVIDIA's MIG placements, as
`nvidia-smi mig -lgipp` prints them). A profile occupies `size` slots from one of its `starts`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from epp_batch.errors import InputError

SLOTS = 8
_MASKS = [(1 << size) - 1 for size in range(SLOTS + 1)]


class Profile(NamedTuple):
    """One slice shape of one GPU model."""

    name: str
    starts: tuple[int, ...]
    size: int
    compute: int
    """Sevenths of the GPU's multiprocessors."""

    def mask(self, start: int) -> int:
        """The slots it takes, as bits."""
        return _MASKS[self.size] << start


def _map(one: int, quarter: int, half: int, whole: int) -> dict[str, Profile]:
    """The profiles of a GPU in seven parts, by the GB of each size."""
    shapes = (
        Profile(f"1g.{one}gb", (0, 1, 2, 3, 4, 5, 6), 1, 1),
        Profile(f"1g.{quarter}gb", (0, 2, 4, 6), 2, 1),
        Profile(f"2g.{quarter}gb", (0, 2, 4), 2, 2),
        Profile(f"3g.{half}gb", (0, 4), 4, 3),
        Profile(f"4g.{half}gb", (0,), 4, 4),
        Profile(f"7g.{whole}gb", (0,), 8, 7),
    )
    return {shape.name: shape for shape in shapes}


_A30 = {
    profile.name: profile
    for profile in (
        Profile("1g.6gb", (0, 2, 4, 6), 2, 1),
        Profile("2g.12gb", (0, 4), 4, 2),
        Profile("4g.24gb", (0,), 8, 4),
    )
}

PROFILES: dict[str, dict[str, Profile]] = {
    "A100-40": _map(5, 10, 20, 40),
    "A100-80": _map(10, 20, 40, 80),
    "H100-80": _map(10, 20, 40, 80),
    "H100-94": _map(12, 24, 47, 94),
    "H100-96": _map(12, 24, 48, 96),
    "H200-141": _map(18, 35, 71, 141),
    "A30": _A30,
}
"""By GPU model. A30 has four slots of its own; they count double here, so that every map has eight."""


def find(gpu: str, name: str) -> Profile | None:
    """A profile by name, as the MIG manager (`1g.5gb+me`) or the device plugin (`1g.5gb.me`) writes it."""
    there = PROFILES.get(gpu, {})
    return there.get(name) or there.get(re.sub(r"(\+|\.)me$", "", name))


def profile(gpu: str, name: str) -> Profile:
    """The same; an InputError that lists what there is, when the GPU has no such slice."""
    if gpu not in PROFILES:
        raise InputError(f"GPU model {gpu!r} cannot be sliced", remedy=f"known are {', '.join(PROFILES)}")
    found = find(gpu, name)
    if found is None:
        raise InputError(f"{gpu} has no slice {name!r}", remedy=f"it has {', '.join(PROFILES[gpu])}")
    return found


def model_of(product: str) -> str:
    """Our name of a GPU from the label `nvidia.com/gpu.product`; the text itself when it is none that can be sliced."""
    if product in PROFILES:
        return product
    size = re.search(r"(\d+)GB", product)
    families = (name for name in ("H200", "H100", "A100", "A30") if name in product)
    family = "H100" if "GH200" in product else next(families, "")
    models = [name for name in PROFILES if name.split("-")[0] == family]
    exact = f"{family}-{size[1]}" if size else ""
    if exact in models or not models:
        return exact or product
    return models[0]


class SlotMap:
    """What is taken on one GPU."""

    __slots__ = ("taken",)

    def __init__(self, taken: int = 0) -> None:
        self.taken = taken

    def find(self, wanted: Profile) -> int | None:
        """The first start at which it fits: what DAS's scheduler plugin and a DRA driver's device order both do."""
        taken, mask = self.taken, _MASKS[wanted.size]
        for start in wanted.starts:
            if not taken & mask << start:
                return start
        return None

    def take(self, wanted: Profile, start: int) -> None:
        self.taken |= wanted.mask(start)

    def give(self, wanted: Profile, start: int) -> None:
        self.taken &= ~wanted.mask(start)

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return SLOTS - self.taken.bit_count()
