"""Requests in flight, counted where they are routed: exact at any moment and never stale.

A scrape is up to its interval old, and all decisions between two scrapes see the same numbers; without the ledger a
burst of requests would go to one endpoint. In llm-d the inflight-load-producer counts requests and tokens in flight.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np

from epp.api import DECODING_REQUESTS, INFLIGHT_REQUESTS, INFLIGHT_TOKENS, Column, Values
from epp.clock import Clock

INITIAL_CAPACITY = 64


class Reservation:
    """One request counted at one slot. `owner` is free for the caller to set; the ledger writes everything else.

    `reserved_at` is monotonic seconds. `decoding`: the first byte of the response was seen or predicted.
    """

    __slots__ = (
        "__weakref__",
        "_is_counted",
        "_keeps_tokens",
        "_tokens",
        "_touched_at",
        "decoding",
        "owner",
        "released",
        "reserved_at",
        "slot",
    )

    def __init__(self, slot: int, tokens: float, keeps_tokens: bool, now: float) -> None:
        self.slot = slot
        self.reserved_at = now
        self.released = False
        self.decoding = False
        self.owner: Any = None
        self._tokens = tokens
        self._keeps_tokens = keeps_tokens
        self._is_counted = True
        self._touched_at = now

    def __repr__(self) -> str:
        state = "released" if self.released else "decoding" if self.decoding else "open"
        return f"Reservation(slot={self.slot}, tokens={self._tokens:g}, {state})"


class Ledger:
    """Requests, tokens and decoding requests in flight, per slot.

    A reservation is counted at one slot or at none, and leaves its count exactly once. Every operation on one
    reservation is O(1), and repeating it has no effect. Single writer: the thread of the event loop.
    """

    def __init__(self, clock: Clock, expire_after: float = 300.0) -> None:
        self._clock = clock
        self._expire_after = expire_after
        # Least recently touched first. A dict, because it keeps the order and removes any key in O(1).
        self._open: dict[Reservation, None] = {}
        self._by_slot: list[dict[Reservation, None]] = []
        # float32 is exact for counts but loses tokens in a long sum, so tokens are summed in Python's floats and
        # published rounded. Items of `array` are written several times faster than numpy's.
        self._token_sums: list[float] = []
        self._requests = self._tokens = self._decoding = array("f")
        self._columns: dict[Column, Values] = {}
        self._grow(INITIAL_CAPACITY)

    def __len__(self) -> int:
        """Reservations that are not yet released."""
        return len(self._open)

    def columns(self, capacity: int = 0) -> Mapping[Column, Values]:
        """INFLIGHT_REQUESTS, INFLIGHT_TOKENS and DECODING_REQUESTS by slot, at least `capacity` long.

        Live and read-only: the arrays change with every reservation, so read them before the next await.
        """
        if capacity > len(self._by_slot):
            self._grow(capacity)
        return self._columns

    def reserve(self, slot: int, prompt_tokens: float, output_tokens: float = 0.0) -> Reservation:
        """Counts a request at a slot from now on.

        Prompt tokens are uncounted at the first byte. If `output_tokens` are reserved too, both stay until the release.
        """
        tokens = prompt_tokens + output_tokens
        if not (prompt_tokens >= 0.0 and output_tokens >= 0.0 and tokens < inf):
            raise ValueError(f"cannot reserve {prompt_tokens} prompt tokens and {output_tokens} output tokens")
        reservation = Reservation(slot, tokens, output_tokens > 0.0, self._clock.now())
        self._open[reservation] = None
        self._count_at(reservation, slot)
        return reservation

    def record_first_byte(self, reservation: Reservation) -> None:
        """The response has begun: the prompt is computed, and the request decodes."""
        if reservation.released:
            return
        self.touch(reservation)
        if reservation.decoding:
            return
        reservation.decoding = True
        slot = reservation.slot
        if reservation._is_counted:
            self._decoding[slot] += 1.0
            if not reservation._keeps_tokens:
                self._add_tokens(slot, -reservation._tokens)
        if not reservation._keeps_tokens:
            reservation._tokens = 0.0

    def touch(self, reservation: Reservation) -> None:
        """The request is alive; its expiry starts over."""
        if not reservation.released:
            del self._open[reservation]
            self._open[reservation] = None
            reservation._touched_at = self._clock.now()

    def move(self, reservation: Reservation, slot: int) -> None:
        """Another endpoint than the reserved one serves the request, so it counts there."""
        if reservation.released or (slot == reservation.slot and reservation._is_counted):
            return
        self._uncount(reservation)
        self._count_at(reservation, slot)

    def release(self, reservation: Reservation) -> bool:
        """The request ended. True only the first time."""
        if reservation.released:
            return False
        reservation.released = True
        del self._open[reservation]
        self._uncount(reservation)
        return True

    def expire(self) -> list[Reservation]:
        """Releases and returns what has not been touched for `expire_after` seconds, least recently touched first."""
        limit = self._clock.now() - self._expire_after
        expired: list[Reservation] = []
        for reservation in self._open:
            if reservation._touched_at > limit:
                break
            expired.append(reservation)
        for reservation in expired:
            self.release(reservation)
        return expired

    def clear_slot(self, slot: int) -> None:
        """The endpoint left the pool: its counts become zero, its open reservations count nowhere. O(reservations)."""
        if slot >= len(self._by_slot):
            return
        for reservation in self._by_slot[slot]:
            reservation._is_counted = False
        self._by_slot[slot] = {}
        self._requests[slot] = self._tokens[slot] = self._decoding[slot] = 0.0
        self._token_sums[slot] = 0.0

    def reserved_before(self, slot: int, moment: float) -> list[Reservation]:
        """The reservations counted at a slot and made before `moment` (monotonic seconds).

        With the start of a scrape as `moment`, these are the requests that the scraped numbers already contain.
        """
        if slot >= len(self._by_slot):
            return []
        return [reservation for reservation in self._by_slot[slot] if reservation.reserved_at < moment]

    def _count_at(self, reservation: Reservation, slot: int) -> None:
        if slot >= len(self._by_slot):
            self._grow(slot + 1)
        reservation.slot = slot
        reservation._is_counted = True
        self._by_slot[slot][reservation] = None
        self._requests[slot] += 1.0
        if reservation.decoding:
            self._decoding[slot] += 1.0
        if reservation._tokens:
            self._add_tokens(slot, reservation._tokens)

    def _uncount(self, reservation: Reservation) -> None:
        if not reservation._is_counted:
            return
        reservation._is_counted = False
        slot = reservation.slot
        counted_here = self._by_slot[slot]
        del counted_here[reservation]
        self._requests[slot] -= 1.0
        if reservation.decoding:
            self._decoding[slot] -= 1.0
        if reservation._tokens or not counted_here:
            self._add_tokens(slot, -reservation._tokens)

    def _add_tokens(self, slot: int, tokens: float) -> None:
        total = self._token_sums[slot] + tokens
        # Floats do not cancel exactly: a slot without requests has 0 tokens, not 1e-12 or less than 0.
        if total < 0.0 or not self._by_slot[slot]:
            total = 0.0
        self._token_sums[slot] = self._tokens[slot] = total

    def _grow(self, capacity: int) -> None:
        """Replaces the arrays by longer ones: an `array` cannot be resized while numpy has a view of it."""
        capacity = max(capacity, 2 * len(self._by_slot))
        extra = [0.0] * (capacity - len(self._by_slot))
        self._by_slot.extend({} for _ in extra)
        self._token_sums.extend(extra)
        self._requests = array("f", [*self._requests, *extra])
        self._tokens = array("f", [*self._tokens, *extra])
        self._decoding = array("f", [*self._decoding, *extra])
        self._columns = {
            INFLIGHT_REQUESTS: _read_only_view(self._requests),
            INFLIGHT_TOKENS: _read_only_view(self._tokens),
            DECODING_REQUESTS: _read_only_view(self._decoding),
        }


def _read_only_view(values: array[float]) -> Values:
    """A read-only numpy view of the array's memory."""
    view: Values = np.frombuffer(values, np.float32)
    view.flags.writeable = False
    return view
