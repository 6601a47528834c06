"""What we routed and have not seen the end of: counted here, so exact at any moment and never stale.

A scrape is up to its interval old and all decisions within it see the same numbers; the ledger is what keeps a
burst from choosing one endpoint. Scrapes correct it (`reserved_before`), they never replace it.
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
    """One reservation. `owner` is free for the caller; the rest is the ledger's to write.

    `reserved_at` is monotonic seconds. `decoding`: the first byte has been seen.
    """

    __slots__ = (
        "__weakref__",
        "_counted",
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
        self._counted = True
        self._touched_at = now

    def __repr__(self) -> str:
        state = "released" if self.released else "decoding" if self.decoding else "open"
        return f"Ticket(slot={self.slot}, tokens={self._tokens:g}, {state})"


class Ledger:
    """Requests, tokens and decoding sequences in flight, per slot.

    Every operation on one ticket is O(1) and idempotent where it can be repeated: a ticket is counted at one slot
    or at none, and leaves its count exactly once. Single writer: the thread of the event loop.
    """

    def __init__(self, clock: Clock, expire_after: float = 300.0) -> None:
        self._clock = clock
        self._expire_after = expire_after
        # Oldest touch first; a dict, because it keeps order and lets go of any key in O(1).
        self._open: dict[Reservation, None] = {}
        self._by_slot: list[dict[Reservation, None]] = []
        # float32 holds counts exactly but would lose tokens after a long sum, so tokens are summed in floats
        # and published rounded. `array` items are several times faster to write than numpy's.
        self._token_sums: list[float] = []
        self._requests = self._tokens = self._decoding = array("f")
        self._columns: dict[Column, Values] = {}
        self._grow(INITIAL_CAPACITY)

    def __len__(self) -> int:
        """Tickets not yet released."""
        return len(self._open)

    def columns(self, capacity: int = 0) -> Mapping[Column, Values]:
        """INFLIGHT_REQUESTS, INFLIGHT_TOKENS and DECODING by slot, at least `capacity` long.

        Live and read only: the arrays change with every reservation, so gather from them before any await.
        """
        if capacity > len(self._by_slot):
            self._grow(capacity)
        return self._columns

    def reserve(self, slot: int, prompt_tokens: float, output_tokens: float = 0.0) -> Reservation:
        """Counts a request at a slot from now on.

        Prompt tokens leave the count at the first byte; with `output_tokens` charged, both stay to the end.
        """
        tokens = prompt_tokens + output_tokens
        if not (prompt_tokens >= 0.0 and output_tokens >= 0.0 and tokens < inf):
            raise ValueError(f"a reservation of {prompt_tokens} prompt and {output_tokens} output tokens")
        ticket = Reservation(slot, tokens, output_tokens > 0.0, self._clock.now())
        self._open[ticket] = None
        self._count_at(ticket, slot)
        return ticket

    def record_first_byte(self, ticket: Reservation) -> None:
        """The answer has begun: the prompt is computed, the request decodes."""
        if ticket.released:
            return
        self.touch(ticket)
        if ticket.decoding:
            return
        ticket.decoding = True
        slot = ticket.slot
        if ticket._counted:
            self._decoding[slot] += 1.0
            if not ticket._keeps_tokens:
                self._add_tokens(slot, -ticket._tokens)
        if not ticket._keeps_tokens:
            ticket._tokens = 0.0

    def touch(self, ticket: Reservation) -> None:
        """The request still lives; puts off its expiry."""
        if not ticket.released:
            del self._open[ticket]
            self._open[ticket] = None
            ticket._touched_at = self._clock.now()

    def move(self, ticket: Reservation, slot: int) -> None:
        """The request is served from another slot than the reserved one, so it counts there."""
        if ticket.released or (slot == ticket.slot and ticket._counted):
            return
        self._uncount(ticket)
        self._count_at(ticket, slot)

    def release(self, ticket: Reservation) -> bool:
        """The request is over. True the first time, whatever else has happened to the ticket."""
        if ticket.released:
            return False
        ticket.released = True
        del self._open[ticket]
        self._uncount(ticket)
        return True

    def expire(self) -> list[Reservation]:
        """Releases and returns the tickets that nothing has touched for `expire_after` seconds, oldest first."""
        limit = self._clock.now() - self._expire_after
        expired: list[Reservation] = []
        for ticket in self._open:
            if ticket._touched_at > limit:
                break
            expired.append(ticket)
        for ticket in expired:
            self.release(ticket)
        return expired

    def clear_slot(self, slot: int) -> None:
        """The endpoint left: its counts go to zero, and its tickets, still open, count nowhere. O(its tickets)."""
        if slot >= len(self._by_slot):
            return
        for ticket in self._by_slot[slot]:
            ticket._counted = False
        self._by_slot[slot] = {}
        self._requests[slot] = self._tokens[slot] = self._decoding[slot] = 0.0
        self._token_sums[slot] = 0.0

    def reserved_before(self, slot: int, moment: float) -> list[Reservation]:
        """The tickets at a slot reserved before `moment` (monotonic seconds).

        With `moment` the start of a scrape, these are the requests that the scraped numbers already contain.
        """
        if slot >= len(self._by_slot):
            return []
        return [ticket for ticket in self._by_slot[slot] if ticket.reserved_at < moment]

    def _count_at(self, ticket: Reservation, slot: int) -> None:
        if slot >= len(self._by_slot):
            self._grow(slot + 1)
        ticket.slot = slot
        ticket._counted = True
        self._by_slot[slot][ticket] = None
        self._requests[slot] += 1.0
        if ticket.decoding:
            self._decoding[slot] += 1.0
        if ticket._tokens:
            self._add_tokens(slot, ticket._tokens)

    def _uncount(self, ticket: Reservation) -> None:
        if not ticket._counted:
            return
        ticket._counted = False
        slot = ticket.slot
        here = self._by_slot[slot]
        del here[ticket]
        self._requests[slot] -= 1.0
        if ticket.decoding:
            self._decoding[slot] -= 1.0
        if ticket._tokens or not here:
            self._add_tokens(slot, -ticket._tokens)

    def _add_tokens(self, slot: int, tokens: float) -> None:
        total = self._token_sums[slot] + tokens
        # Fractions do not cancel exactly; nobody here is zero, not 1e-12 and never less.
        if total < 0.0 or not self._by_slot[slot]:
            total = 0.0
        self._token_sums[slot] = self._tokens[slot] = total

    def _grow(self, capacity: int) -> None:
        """An array that numpy looks into cannot be resized: longer ones take their place, under the same keys."""
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
    """The same memory, as a column that cannot be written."""
    view: Values = np.frombuffer(values, np.float32)
    view.flags.writeable = False
    return view
