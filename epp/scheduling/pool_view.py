"""The pool as a decision sees it: what was scraped and what is in flight, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from epp.api import INFLIGHT_REQUESTS, RUNNING_REQUESTS, WAITING_REQUESTS, Column, Snapshot, Values
from epp.datastore.endpoint_store import EndpointStore
from epp.datastore.ledger import Ledger


class PoolView:
    """The scraped columns and the ledger's live ones as one snapshot."""

    def __init__(self, table: EndpointStore, ledger: Ledger, scraped_load: bool) -> None:
        self._table = table
        self._ledger = ledger
        self._scraped_load = scraped_load
        self._scraped: Snapshot | None = None
        self._counts: Mapping[Column, Values] = {}
        self._merged: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """The pool as it is now; counts stay live, so read them before the next await."""
        scraped = self._table.snapshot()
        counts = self._ledger.columns(len(scraped.endpoints))
        if self._merged is None or scraped is not self._scraped or counts is not self._counts:
            self._scraped, self._counts = scraped, counts
            self._merged = msgspec.structs.replace(scraped, ledger_columns=counts)
        if self._scraped_load:
            return self._add_scraped_load(self._merged)
        return self._merged

    def slots_in_subset(self, subset: tuple[str, ...]) -> NDArray[np.intp]:
        """Slots of the hinted endpoints: `ip:port` means that port, a bare `ip` all of its ports."""
        found: set[int] = set()
        for item in subset:
            found.update(self._table.find_subset_slots(item))
        return np.array(sorted(found), np.intp)

    def _add_scraped_load(self, snapshot: Snapshot) -> Snapshot:
        load = np.nan_to_num(snapshot.columns[RUNNING_REQUESTS]) + np.nan_to_num(snapshot.columns[WAITING_REQUESTS])
        reserved = snapshot.ledger_columns[INFLIGHT_REQUESTS]
        width = min(len(load), len(reserved))
        return msgspec.structs.replace(
            snapshot, ledger_columns={**snapshot.ledger_columns, INFLIGHT_REQUESTS: reserved[:width] + load[:width]}
        )
