"""The candidates of one decision, as columns."""

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
    """One place that answers requests: an address and a port of a model server.

    `name` is unique in the pool (`<namespace>/<pod>-rank-<port index>` where Kubernetes names it);
    `pod` and `namespace` label metrics; `rank` is the index of the port among the pod's ports.
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
        """`address:port` as Envoy wants it, brackets around IPv6."""
        return join_host_port(self.address, self.port)


class LoraAdapters(msgspec.Struct, frozen=True, gc=False):
    """LoRA adapters of an endpoint at its last scrape."""

    running: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()


NO_LORA_ADAPTERS = LoraAdapters()


class Snapshot(msgspec.Struct, frozen=True):
    """The pool at one moment. Arrays are indexed by slot, read only, and never change once published.

    `live` holds the slots in use, ascending; `endpoints` and `adapters` have None / NO_ADAPTERS at free slots.
    `counts` are the exception: the ledger's own arrays, true at the moment they are read. `memo` keeps what has been
    computed from the columns of all live endpoints, so that it is computed once a snapshot.
    """

    columns: Mapping[Column, Values]
    endpoints: Sequence[Endpoint | None]
    live_slots: NDArray[np.intp]
    adapters: Sequence[LoraAdapters] = ()
    ledger_columns: Mapping[Column, NDArray[Any]] = {}
    memo: dict[Any, Any] = msgspec.field(default_factory=dict)


_NO_COLUMNS: dict[Column, Values] = {}
"""Nobody's: stands for no columns."""


class Endpoints:
    """A view of some endpoints. Position i of every array is the same endpoint.

    Whoever runs producers may `add` to it; nothing else changes it.
    """

    __slots__ = ("_gathered", "_produced", "_snapshot", "slots")

    def __init__(self, snapshot: Snapshot, slots: NDArray[np.intp], extra: dict[Column, Values] = _NO_COLUMNS) -> None:
        self._snapshot = snapshot
        self._produced = extra
        self._gathered: dict[Column, Values] = {}
        self.slots = slots

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, column: Column) -> Values:
        """float32[n], read only; all NaN if nobody produces the column."""
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
        """The endpoint at a position."""
        endpoint = self._snapshot.endpoints[self.slots.item(position)]
        assert endpoint is not None, "a live slot has an endpoint"
        return endpoint

    def __iter__(self) -> Iterator[Endpoint]:
        return (self.endpoint_at(i) for i in range(len(self.slots)))

    def label_values(self, key: str) -> list[str | None]:
        """The value of one label, per endpoint; None where the endpoint has no such label."""
        known = self._snapshot.endpoints
        return [endpoint.labels.get(key) for slot in self.slots.tolist() if (endpoint := known[slot]) is not None]

    def lora_adapters(self) -> list[LoraAdapters]:
        """LoRA adapters, per endpoint."""
        known = self._snapshot.adapters
        return [known[slot] if slot < len(known) else NO_LORA_ADAPTERS for slot in self.slots.tolist()]

    def select(self, mask: Mask) -> Endpoints:
        """The endpoints whose mask is true, in the same order; produced columns come along."""
        kept = Endpoints(self._snapshot, self.slots[mask])
        if not self._produced:
            return kept
        return kept.with_columns({column: values[mask] for column, values in self._produced.items()})

    def add_column(self, column: Column, values: Values) -> None:
        """Adds a produced column (float32[n], read only from now on); it hides an earlier one."""
        values.setflags(write=False)
        if self._produced is _NO_COLUMNS:
            self._produced = {}
        self._produced[column] = values

    def with_columns(self, columns: Mapping[Column, Values]) -> Endpoints:
        """The same endpoints with columns added (float32[n] each, read only from now on); they hide earlier ones."""
        for values in columns.values():
            values.setflags(write=False)
        return Endpoints(self._snapshot, self.slots, {**self._produced, **columns})

    def with_snapshot(self, snapshot: Snapshot) -> Endpoints:
        """The same endpoints with the numbers of a later snapshot; those that have left since are dropped."""
        before, after = self._snapshot.endpoints, snapshot.endpoints
        stay = np.array([slot < len(after) and after[slot] is before[slot] for slot in self.slots.tolist()], np.bool_)
        kept = self.select(stay)
        return Endpoints(snapshot, kept.slots, kept._produced)

    @property
    def memo(self) -> dict[Any, Any] | None:
        """What may be kept until the pool changes, by any key; None unless these are all live endpoints."""
        return self._snapshot.memo if self.slots is self._snapshot.live_slots else None

    def _gather_column(self, column: Column) -> Values:
        snapshot, slots = self._snapshot, self.slots
        source = snapshot.columns.get(column)
        if source is None:
            counted = snapshot.ledger_columns.get(column)
            return (
                np.full(len(slots), np.nan, np.float32) if counted is None else np.asarray(counted[slots], np.float32)
            )
        if slots is not snapshot.live_slots:
            return source[slots]
        values: Values | None = snapshot.memo.get(column)
        if values is None:
            values = snapshot.memo[column] = source[slots]
        return values


class EndpointPredicate:
    """A yes or no that depends on the endpoint alone (labels, address), remembered while the pool stands still.

    Asks `test` once per endpoint and membership change, not once per request.
    """

    __slots__ = ("_evaluated_endpoints", "_predicate", "_results")

    def __init__(self, test: Callable[[Endpoint], bool]) -> None:
        self._predicate = test
        self._evaluated_endpoints: Sequence[Endpoint | None] = ()
        self._results: Mask = np.zeros(0, np.bool_)

    def __call__(self, endpoints: Endpoints) -> Mask:
        """bool[n] for these endpoints."""
        known = endpoints._snapshot.endpoints  # published snapshots never change, so identity says it all
        if known is not self._evaluated_endpoints:
            marks = [endpoint is not None and bool(self._predicate(endpoint)) for endpoint in known]
            self._results, self._evaluated_endpoints = np.array(marks, np.bool_), known
        return self._results[endpoints.slots]
