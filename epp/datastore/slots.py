"""Slots: small stable integers for endpoint names, by which all arrays are indexed."""

from __future__ import annotations

import heapq


class SlotAllocator:
    """A slot belongs to one name until it is freed; then another name may get it, with the next generation.

    The lowest free slot is allocated first, which keeps the arrays short.
    """

    __slots__ = ("_by_name", "_free", "_generations", "_names")

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._names: list[str | None] = []
        self._generations: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def capacity(self) -> int:
        """One more than the highest slot that was ever allocated."""
        return len(self._names)

    def find_slot(self, name: str) -> int | None:
        """The slot of a name, if it has one."""
        return self._by_name.get(name)

    def generation_of(self, slot: int) -> int:
        """How often the slot was freed: tells endpoints at the same slot apart (the ABA problem).

        Work that began in another generation belongs to an endpoint that has left.
        """
        return self._generations[slot]

    def live_slots(self) -> list[int]:
        """The slots in use, ascending."""
        return [slot for slot, name in enumerate(self._names) if name is not None]

    def allocate(self, name: str) -> int:
        """The slot of a name; a new one if it has none."""
        slot = self._by_name.get(name)
        if slot is not None:
            return slot
        if self._free:
            slot = heapq.heappop(self._free)
            self._names[slot] = name
        else:
            slot = len(self._names)
            self._names.append(name)
            self._generations.append(0)
        self._by_name[name] = slot
        return slot

    def free(self, name: str) -> int:
        """Frees the slot of a name and returns it; raises KeyError if it has none."""
        slot = self._by_name.pop(name)
        self._names[slot] = None
        self._generations[slot] += 1
        heapq.heappush(self._free, slot)
        return slot
