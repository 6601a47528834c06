"""Ends requests whose end was never reported: a gateway that died, a log entry that was lost."""

from __future__ import annotations

from epp.api import RUNNING_REQUESTS, WAITING_REQUESTS
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger, Reservation
from epp.requestcontrol.inflight_request import InflightRequest

ORPHAN_GRACE_SECONDS = 5.0
"""How much older than an idle server's report a reservation must be to count as orphaned."""


class ReservationExpiry:
    """Finalizes requests with the cause `expired`. Called every few seconds, on the event loop."""

    def __init__(self, store: EndpointStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def run_once(self) -> None:
        """Expires reservations that are older than `--reservation-ttl`, and orphaned ones."""
        for reservation in self._ledger.expire():
            if isinstance(reservation.owner, InflightRequest):
                reservation.owner.finalize("expired")
        for reservation in self._orphaned_reservations():
            if isinstance(reservation.owner, InflightRequest) and reservation.owner.tracked:
                reservation.owner.finalize("expired")

    def _orphaned_reservations(self) -> list[Reservation]:
        """Reservations at servers that report no running and no waiting request, made well before that report."""
        snapshot = self._store.snapshot()
        if not snapshot.columns:
            return []
        idle = (snapshot.columns[RUNNING_REQUESTS] == 0) & (snapshot.columns[WAITING_REQUESTS] == 0)
        return [
            reservation
            for slot in snapshot.live_slots[idle[snapshot.live_slots]].tolist()
            for reservation in self._ledger.reserved_before(
                slot, self._store.last_scraped_at(slot) - ORPHAN_GRACE_SECONDS
            )
        ]
