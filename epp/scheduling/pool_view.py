"""The pool as a decision sees it: scraped columns and the ledger's in-flight counts side by side."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from epp.api import INFLIGHT_REQUESTS, RUNNING_REQUESTS, WAITING_REQUESTS, Column, Snapshot, Values
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger


class PoolView:
    """Snapshots of the endpoint store with the ledger's columns added.

    `use_scraped_load`: in-flight requests are those reserved since the last scrape plus those that it counted as
    waiting or running. For `--completion scrape`, where a scrape replaces the reservations made before it.
    """

    def __init__(self, store: EndpointStore, ledger: Ledger, use_scraped_load: bool) -> None:
        self._store = store
        self._ledger = ledger
        self._use_scraped_load = use_scraped_load
        self._scraped: Snapshot | None = None
        self._ledger_columns: Mapping[Column, Values] = {}
        self._merged: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The pool now. The ledger's columns stay live: they may change at the next await."""
        scraped = self._store.snapshot()
        ledger_columns = self._ledger.columns(len(scraped.endpoints))
        if self._merged is None or scraped is not self._scraped or ledger_columns is not self._ledger_columns:
            self._scraped, self._ledger_columns = scraped, ledger_columns
            self._merged = msgspec.structs.replace(scraped, ledger_columns=ledger_columns)
        if self._use_scraped_load:
            return self._add_scraped_load(self._merged)
        return self._merged

    def slots_in_subset(self, subset_hint: tuple[str, ...]) -> NDArray[np.intp]:
        """Slots of the endpoints that a subset hint names, ascending: `ip:port` is that port, `ip` all ports of it."""
        slots: set[int] = set()
        for item in subset_hint:
            slots.update(self._store.find_subset_slots(item))
        return np.array(sorted(slots), np.intp)

    def _add_scraped_load(self, snapshot: Snapshot) -> Snapshot:
        columns = snapshot.columns
        scraped = np.nan_to_num(columns[RUNNING_REQUESTS]) + np.nan_to_num(columns[WAITING_REQUESTS])
        reserved = snapshot.ledger_columns[INFLIGHT_REQUESTS]
        width = min(len(scraped), len(reserved))
        load = reserved[:width] + scraped[:width]
        return msgspec.structs.replace(snapshot, ledger_columns={**snapshot.ledger_columns, INFLIGHT_REQUESTS: load})
