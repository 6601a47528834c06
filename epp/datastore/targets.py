"""Lookup of slots by address, as gateways spell it."""

from __future__ import annotations

from collections.abc import Iterable

from epp.address import canonicalize_address
from epp.api import Endpoint


class TargetIndex:
    """An immutable index over the endpoints of a pool; the store builds a new one when they change."""

    __slots__ = ("_by_address", "_by_target")

    def __init__(self, endpoints: Iterable[tuple[int, Endpoint]]) -> None:
        self._by_target: dict[str, int] = {}
        self._by_address: dict[str, list[int]] = {}
        for slot, endpoint in endpoints:
            self._by_target[canonicalize_address(endpoint.target)] = slot
            self._by_address.setdefault(canonicalize_address(endpoint.address), []).append(slot)

    def find_slot(self, target: str) -> int | None:
        """The slot of `ip:port`, with brackets around IPv6."""
        slot = self._by_target.get(target)
        # Only IPv6 addresses have more than one spelling.
        return slot if slot is not None or target[:1] != "[" else self._by_target.get(canonicalize_address(target))

    def find_subset_slots(self, item: str) -> tuple[int, ...]:
        """The slots that one item of a subset hint names: `ip:port` is exactly that port, `ip` all ports of it."""
        slot = self.find_slot(item)
        return (slot,) if slot is not None else tuple(self._by_address.get(canonicalize_address(item), ()))
