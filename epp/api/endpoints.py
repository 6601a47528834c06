"""Endpoints of the pool and their columns, as one decision sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from epp.address import join_host_port
from epp.api.columns import Column
from epp.api.types import Mask, Values


class Endpoint(msgspec.Struct, frozen=True, dict=True):
    """An address and a port at which a model server serves requests.

    `name` is unique in the pool; llm-d's form for pods is `<namespace>/<pod>-rank-<index of the port>`. `pod` and
    `namespace` are labels of metrics; `rank` is the index of the port among the pod's ports (data parallelism).
    """

    name: str
    address: str
    port: int
    labels: Mapping[str, str] = {}
    namespace: str = "default"
    pod: str = ""
    rank: int = 0

    @cached_property
    def target(self) -> str:
        """`address:port` in Envoy's form: an IPv6 address in brackets."""
        return join_host_port(self.address, self.port)


class LoraAdapters(msgspec.Struct, frozen=True, gc=False):
    """Names of the LoRA adapters that an endpoint reported at its last scrape."""

    running: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()


NO_LORA_ADAPTERS = LoraAdapters()


class Snapshot(msgspec.Struct, frozen=True):
    """The pool at one moment: what every decision until the next scrape or membership change reads.

    Arrays are indexed by slot, read-only, and do not change once published; `ledger_columns` are the exception, they
    are the ledger's own arrays and change with every reservation. `live_slots` holds the slots in use, ascending;
    `endpoints` and `adapters` are None and NO_LORA_ADAPTERS at free slots. `memo` holds values computed from the
    columns of all live endpoints, so that they are computed once a snapshot.
    """

    columns: Mapping[Column, Values]
    endpoints: Sequence[Endpoint | None]
    live_slots: NDArray[np.intp]
    adapters: Sequence[LoraAdapters] = ()
    ledger_columns: Mapping[Column, NDArray[Any]] = {}
    memo: dict[Any, Any] = msgspec.field(default_factory=dict)


_NO_COLUMNS: dict[Column, Values] = {}
"""Shared by all endpoints without produced columns; never written to."""


class Endpoints:
    """The candidates of one decision: some endpoints of a snapshot, and the columns produced for them.

    Position i of every array is the same endpoint, the one at `slots[i]`. Read-only for plugins; the runner of
    producers adds their columns with `add_column`.
    """

    __slots__ = ("_gathered", "_produced", "_snapshot", "slots")

    def __init__(
        self, snapshot: Snapshot, slots: NDArray[np.intp], produced: dict[Column, Values] = _NO_COLUMNS
    ) -> None:
        self._snapshot = snapshot
        self._produced = produced
        self._gathered: dict[Column, Values] = {}
        self.slots = slots

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, column: Column) -> Values:
        """float32[n], read-only; all NaN if the column has no values."""
        values = self._produced.get(column)
        if values is None:
            values = self._gathered.get(column)
            if values is None:
                values = self._gathered[column] = self._gather_column(column)
                values.setflags(write=False)
        return values

    def __repr__(self) -> str:
        return f"Endpoints({[endpoint.name for endpoint in self]!r})"

    def endpoint_at(self, position: int) -> Endpoint:
        """The endpoint at a position; IndexError beyond the last."""
        endpoint = self._snapshot.endpoints[self.slots.item(position)]
        assert endpoint is not None, "a live slot has an endpoint"
        return endpoint

    def __iter__(self) -> Iterator[Endpoint]:
        return (self.endpoint_at(i) for i in range(len(self.slots)))

    def label_values(self, key: str) -> list[str | None]:
        """The value of one label of each endpoint; None where it has no such label."""
        endpoints = self._snapshot.endpoints
        return [endpoint.labels.get(key) for slot in self.slots.tolist() if (endpoint := endpoints[slot]) is not None]

    def lora_adapters(self) -> list[LoraAdapters]:
        """The LoRA adapters of each endpoint."""
        adapters = self._snapshot.adapters
        return [adapters[slot] if slot < len(adapters) else NO_LORA_ADAPTERS for slot in self.slots.tolist()]

    def select(self, mask: Mask) -> Endpoints:
        """The endpoints whose mask is true, in the same order, with their produced columns."""
        selected = Endpoints(self._snapshot, self.slots[mask])
        if not self._produced:
            return selected
        return selected.with_columns({column: values[mask] for column, values in self._produced.items()})

    def add_column(self, column: Column, values: Values) -> None:
        """Adds a produced column: float32[n], read-only from now on. It hides a column of the same key."""
        values.setflags(write=False)
        if self._produced is _NO_COLUMNS:
            self._produced = {}
        self._produced[column] = values

    def with_columns(self, columns: Mapping[Column, Values]) -> Endpoints:
        """A view of the same endpoints with produced columns added; otherwise as `add_column`."""
        for values in columns.values():
            values.setflags(write=False)
        return Endpoints(self._snapshot, self.slots, {**self._produced, **columns})

    def with_snapshot(self, snapshot: Snapshot) -> Endpoints:
        """A view of these endpoints in a later snapshot, without those that left the pool meanwhile."""
        before, after = self._snapshot.endpoints, snapshot.endpoints
        is_member = [slot < len(after) and after[slot] is before[slot] for slot in self.slots.tolist()]
        members = self.select(np.array(is_member, np.bool_))
        return Endpoints(snapshot, members.slots, members._produced)

    @property
    def memo(self) -> dict[Any, Any] | None:
        """Cache of values that hold until the next snapshot, by any key; None unless these are all live endpoints."""
        return self._snapshot.memo if self.slots is self._snapshot.live_slots else None

    def _gather_column(self, column: Column) -> Values:
        snapshot, slots = self._snapshot, self.slots
        scraped = snapshot.columns.get(column)
        if scraped is None:
            counted = snapshot.ledger_columns.get(column)
            if counted is None:
                return np.full(len(slots), np.nan, np.float32)
            return np.asarray(counted[slots], np.float32)
        if slots is not snapshot.live_slots:
            return scraped[slots]
        # Most decisions are about all live endpoints: the column is gathered for the first of them in a snapshot.
        values: Values | None = snapshot.memo.get(column)
        if values is None:
            values = snapshot.memo[column] = scraped[slots]
        return values


class EndpointPredicate:
    """A condition on an endpoint alone (labels, address), evaluated once an endpoint and membership change.

    Filters by label use it: called with the candidates of a request it only gathers the remembered results.
    """

    __slots__ = ("_evaluated_endpoints", "_predicate", "_results")

    def __init__(self, predicate: Callable[[Endpoint], bool]) -> None:
        self._predicate = predicate
        self._evaluated_endpoints: Sequence[Endpoint | None] = ()
        self._results: Mask = np.zeros(0, np.bool_)

    def __call__(self, endpoints: Endpoints) -> Mask:
        """bool[n] for these endpoints."""
        members = endpoints._snapshot.endpoints
        if members is not self._evaluated_endpoints:  # a published sequence does not change, so identity suffices
            results = [endpoint is not None and bool(self._predicate(endpoint)) for endpoint in members]
            self._results, self._evaluated_endpoints = np.array(results, np.bool_), members
        return self._results[endpoints.slots]
