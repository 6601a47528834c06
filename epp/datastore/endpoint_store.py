"""The endpoints of the pool and their scraped values, as columns over slots (llm-d's `Datastore`).

The store is written and read thousands of times a second by one thread. A snapshot costs what has changed since the
last one: nothing, or one copy of a small block of float32; kube-scheduler's `Cache.UpdateSnapshot` is incremental too.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from math import inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epp.api import NO_LORA_ADAPTERS, RUNNING_REQUESTS, SCRAPED_COLUMNS, Column, Endpoint, LoraAdapters, Snapshot
from epp.clock import Clock
from epp.datastore.slots import SlotAllocator
from epp.datastore.targets import TargetIndex

INITIAL_CAPACITY = 64


class ColumnSummary(NamedTuple):
    """One column over the endpoints that have a value; `mean` and `standard_deviation` are NaN if none has."""

    endpoints: int
    mean: float
    standard_deviation: float


class EndpointStore:
    """Endpoints and their scraped columns. Single writer: the thread of the event loop.

    Values observed more than `staleness` seconds ago become NaN at the next snapshot, though nothing was written: a
    dead server that is still listed must not keep its good numbers.
    """

    def __init__(self, clock: Clock, staleness: float = 2.0) -> None:
        self._clock = clock
        self._staleness = staleness
        self._slots = SlotAllocator()
        self._endpoints: list[Endpoint | None] = []
        self._adapters: list[LoraAdapters] = []
        self._width = INITIAL_CAPACITY
        # Cell (column, slot) is at row * width + slot. Items of `array` are written several times faster than numpy's.
        self._rows: dict[Column, int] = {column: row for row, column in enumerate(SCRAPED_COLUMNS)}
        self._cells = array("f", [nan]) * (len(SCRAPED_COLUMNS) * INITIAL_CAPACITY)
        # Cell (writer, slot) is at index * width + slot: when the newest record of that writer was observed. Row 0 is
        # that of columns without a writer, which are never observed.
        self._times = array("d", [-inf]) * INITIAL_CAPACITY
        self._cells_view: NDArray[np.float32] = np.frombuffer(self._cells, np.float32)
        self._times_view: NDArray[np.float64] = np.frombuffer(self._times, np.float64)
        # The earliest moment at which a value becomes stale.
        self._next_stale = inf
        self._writers: list[ColumnWriter] = []
        self._writer_of: dict[Column, ColumnWriter] = {}
        self._targets: TargetIndex | None = None
        self._upsert_listeners: list[Callable[[int], None]] = []
        self._remove_listeners: list[Callable[[int], None]] = []
        self._scrape_listeners: list[Callable[[int, float], None]] = []
        self._published = Snapshot(columns={}, endpoints=(), live_slots=np.empty(0, np.intp))
        self._members_changed = self._adapters_changed = self._values_changed = True

    def __len__(self) -> int:
        """Endpoints in the pool."""
        return len(self._slots)

    def upsert(self, endpoint: Endpoint) -> int:
        """Adds an endpoint, or replaces the one of that name, and returns its slot.

        The same name at another address is another server: the old one is removed first, and its values with it. A
        change of labels keeps slot and values.
        """
        slot = self._slots.find_slot(endpoint.name)
        if slot is not None:
            old = self._endpoints[slot]
            if old == endpoint:
                return slot
            if old is not None and old.target != endpoint.target:
                self.remove(endpoint.name)
        slot = self._slots.allocate(endpoint.name)
        if slot == len(self._endpoints):
            self._endpoints.append(None)
            self._adapters.append(NO_LORA_ADAPTERS)
            if slot >= self._width:
                self._grow(2 * self._width, len(self._rows))
        self._endpoints[slot] = endpoint
        self._invalidate_members()
        for callback in self._upsert_listeners:
            callback(slot)
        return slot

    def remove(self, name: str) -> None:
        """Removes an endpoint; no effect if there is none of that name."""
        if name not in self._slots:
            return
        slot = self._slots.free(name)
        self._endpoints[slot] = None
        self._adapters[slot] = NO_LORA_ADAPTERS
        for cell in range(slot, len(self._times), self._width):
            self._times[cell] = -inf
        for cell in range(slot, len(self._cells), self._width):
            self._cells[cell] = nan
        self._invalidate_members()
        for callback in self._remove_listeners:
            callback(slot)

    def replace_all(self, endpoints: Iterable[Endpoint]) -> None:
        """Makes the pool exactly these endpoints (client-go's `Store.Replace`); heals lost updates."""
        wanted = {endpoint.name: endpoint for endpoint in endpoints}
        for endpoint in self.list_endpoints():
            if endpoint.name not in wanted:
                self.remove(endpoint.name)
        for endpoint in wanted.values():
            self.upsert(endpoint)

    def list_endpoints(self) -> list[Endpoint]:
        """All endpoints, in the order of their slots."""
        return [endpoint for endpoint in self._endpoints if endpoint is not None]

    def get_endpoint(self, slot: int) -> Endpoint | None:
        """The endpoint at a slot; None if the slot is free."""
        return self._endpoints[slot] if slot < len(self._endpoints) else None

    def generation_of(self, slot: int) -> int:
        """The generation of a slot; read when a scrape begins and passed back with its result."""
        return self._slots.generation_of(slot)

    def find_slot(self, target: str) -> int | None:
        """The slot of `ip:port`, with brackets around IPv6 in any spelling."""
        return self._target_index().find_slot(target)

    def find_subset_slots(self, item: str) -> tuple[int, ...]:
        """The slots that one item of a subset hint names: `ip:port` is exactly that port, `ip` all ports of it."""
        return self._target_index().find_subset_slots(item)

    def on_upsert(self, callback: Callable[[int], None]) -> None:
        """Registers a callback for added and changed endpoints; called with the slot."""
        self._upsert_listeners.append(callback)

    def on_removed(self, callback: Callable[[int], None]) -> None:
        """Registers a callback for endpoints that left; called with the slot before it can be allocated again."""
        self._remove_listeners.append(callback)

    def on_scraped(self, callback: Callable[[int, float], None]) -> None:
        """Registers a callback for stored records of RUNNING_REQUESTS; called with slot and observation time."""
        self._scrape_listeners.append(callback)

    def create_writer(self, columns: Iterable[Column]) -> ColumnWriter:
        """A writer of these columns, whose values age by its records alone; for one extractor.

        A column has one writer: columns that an earlier call has given to a writer are left out.
        """
        writer = ColumnWriter(self, len(self._writers) + 1)
        self._writers.append(writer)
        self._grow(self._width, len(self._rows))
        for column in columns:
            if column in self._writer_of:
                continue
            if column not in self._rows:
                self._grow(self._width, len(self._rows) + 1)
                self._rows[column] = len(self._rows)
            self._writer_of[column] = writer
            writer.rows[column] = self._rows[column]
        return writer

    def last_scraped_at(self, slot: int) -> float:
        """When the newest RUNNING_REQUESTS of a slot was observed, in monotonic seconds; -inf if there is none."""
        return self._times[self._time_row(RUNNING_REQUESTS) * self._width + slot] if slot < self._width else -inf

    def snapshot(self) -> Snapshot:
        """The pool now; the same object as before if nothing has changed."""
        now = self._clock.now()
        if now >= self._next_stale:
            self._expire_stale(now)
        if self._values_changed or self._members_changed or self._adapters_changed:
            self._published = self._build_snapshot(self._published)
            self._values_changed = self._members_changed = self._adapters_changed = False
        return self._published

    def summarize_column(self, column: Column, max_age: float = inf) -> ColumnSummary:
        """Mean and standard deviation of a column over the endpoints observed within `max_age` seconds."""
        snapshot = self.snapshot()
        source = snapshot.columns.get(column)
        if source is None or not len(snapshot.live_slots):
            return ColumnSummary(0, nan, nan)
        values = source[snapshot.live_slots]
        times = self._times_view.reshape(-1, self._width)[self._time_row(column), snapshot.live_slots]
        values = values[(times > self._clock.now() - max_age) & ~np.isnan(values)]
        if not len(values):
            return ColumnSummary(0, nan, nan)
        return ColumnSummary(len(values), float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))

    def _build_snapshot(self, before: Snapshot) -> Snapshot:
        # `tobytes` is immutable, which makes every row of the frame read-only.
        frame = np.frombuffer(self._cells.tobytes(), np.float32).reshape(-1, self._width)
        return Snapshot(
            columns=dict(zip(self._rows, frame, strict=True)),
            endpoints=tuple(self._endpoints) if self._members_changed else before.endpoints,
            live_slots=_read_only_slots(self._slots.live_slots()) if self._members_changed else before.live_slots,
            adapters=tuple(self._adapters) if self._adapters_changed or self._members_changed else before.adapters,
        )

    def _expire_stale(self, now: float) -> None:
        """Makes stale values NaN and finds when the next one becomes stale."""
        limit = now - self._staleness
        cells = self._cells_view.reshape(-1, self._width)
        times = self._times_view.reshape(-1, self._width)
        for writer in self._writers:
            stale = times[writer.index] <= limit
            for row in writer.rows.values():
                cells[row, stale] = nan
            if writer.writes_adapters:
                for slot in np.flatnonzero(stale[: len(self._adapters)]).tolist():
                    self._adapters[slot] = NO_LORA_ADAPTERS
        fresh = self._times_view[self._times_view > limit]
        self._next_stale = float(fresh.min()) + self._staleness if len(fresh) else inf
        self._values_changed = self._adapters_changed = True

    def _target_index(self) -> TargetIndex:
        if self._targets is None:
            live = ((slot, endpoint) for slot, endpoint in enumerate(self._endpoints) if endpoint is not None)
            self._targets = TargetIndex(live)
        return self._targets

    def _time_row(self, column: Column) -> int:
        writer = self._writer_of.get(column)
        return 0 if writer is None else writer.index

    def _invalidate_members(self) -> None:
        self._members_changed = self._values_changed = True
        self._targets = None

    def _grow(self, width: int, rows: int) -> None:
        """Replaces the arrays by larger ones: an `array` cannot be resized while numpy has a view of it."""
        cells = np.full((rows, width), nan, np.float32)
        old = self._cells_view.reshape(-1, self._width)
        cells[: old.shape[0], : old.shape[1]] = old
        times = np.full((len(self._writers) + 1, width), -inf)
        known = self._times_view.reshape(-1, self._width)
        times[: known.shape[0], : known.shape[1]] = known
        self._width = width
        self._cells, self._times = array("f", cells.tobytes()), array("d", times.tobytes())
        self._cells_view = np.frombuffer(self._cells, np.float32)
        self._times_view = np.frombuffer(self._times, np.float64)


class ColumnWriter:
    """Writes the columns of one extractor into the store. Created by `EndpointStore.create_writer`."""

    __slots__ = ("_store", "index", "rows", "writes_adapters")

    def __init__(self, store: EndpointStore, index: int) -> None:
        self._store = store
        self.index = index
        self.rows: dict[Column, int] = {}
        self.writes_adapters = False

    def record(
        self,
        slot: int,
        generation: int,
        observed_at: float,
        values: Mapping[Column, float],
        adapters: LoraAdapters | None,
    ) -> None:
        """Stores what was observed at `observed_at`; columns of this writer that `values` lacks become NaN.

        Dropped if the endpoint has left since `generation` was read, or if a newer record was stored. TypeError if a
        value is not a number: all columns of this writer become NaN.
        `adapters` None leaves the LoRA adapters as they are.
        """
        store = self._store
        width, times = store._width, store._times
        time_cell = self.index * width + slot
        if generation != store._slots.generation_of(slot) or observed_at < times[time_cell]:
            return
        cells = store._cells
        try:
            for column, row in self.rows.items():
                cells[row * width + slot] = values.get(column, nan)
        except Exception:  # not a number: the values stored before it must not outlive the time of an older record
            for row in self.rows.values():
                cells[row * width + slot] = nan
            store._values_changed = True
            raise
        times[time_cell] = observed_at
        store._values_changed = True
        stale_at = observed_at + store._staleness
        if stale_at < store._next_stale:  # noqa: PLR1730 -- a comparison is cheaper than a call
            store._next_stale = stale_at
        if adapters is not None:
            self.writes_adapters = True
            known = store._adapters[slot]
            if adapters is not known and adapters != known:
                store._adapters[slot] = adapters
                store._adapters_changed = True
        if store._scrape_listeners and RUNNING_REQUESTS in self.rows:
            for callback in store._scrape_listeners:
                callback(slot, observed_at)


def _read_only_slots(slots: list[int]) -> NDArray[np.intp]:
    live = np.array(slots, np.intp)
    live.flags.writeable = False
    return live
