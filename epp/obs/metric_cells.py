"""Counters, gauges and histograms that cost a list index to write, exposed through prometheus_client.

A `Series` holds one cell for each combination of label values. Callers look a cell up once and keep it; writing is
plain arithmetic on the event-loop thread, without locks. Everything dear (label dictionaries, cumulative buckets,
twins under an older name) happens when somebody reads `/metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

OTHER = "other"

Kind = Literal["counter", "gauge", "histogram"]


class Twin(msgspec.Struct, frozen=True):
    """An older name of a metric. `labels`: (label of the twin, label it is taken from); the others are summed over."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


class Spec(msgspec.Struct, frozen=True):
    """One metric: what is exposed, and under which names. `limit`: label combinations before `other` is used."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    twin: Twin | None = None
    limit: int = 10_000


class Number:
    """A counter or a gauge: add to `value`."""

    __slots__ = ("value",)

    def __init__(self, spec: Spec) -> None:
        self.value = 0.0

    def merged(self, other: Number) -> None:
        """Takes the other's value in."""
        self.value += other.value


class Histogram:
    """Observations counted by bucket; the last count is that of +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, spec: Spec) -> None:
        self.bounds = spec.buckets
        self.counts = [0] * (len(spec.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merged(self, other: Histogram) -> None:
        """Takes the other's observations in."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


CellT = TypeVar("CellT", Number, Histogram)


class Series(Generic[CellT]):
    """All cells of one metric."""

    def __init__(self, spec: Spec, cell: type[CellT]) -> None:
        self.spec = spec
        self._cell: type[CellT] = cell
        self._cells: dict[tuple[str, ...], CellT] = {}
        if not spec.labels:
            self.at()

    def at(self, *values: str) -> CellT:
        """The cell of these label values, made on first use; `other` everywhere once the limit is reached."""
        found = self._cells.get(values)
        if found is None:
            if len(values) != len(self.spec.labels):
                raise ValueError(f"{self.spec.name} has labels {self.spec.labels}, not {values}")
            if len(self._cells) >= self.spec.limit:
                values = (OTHER,) * len(values)
            found = self._cells.setdefault(values, self._cell(self.spec))
        return found

    def drop(self, label: str, value: str) -> None:
        """Forgets every cell with this label value; what left the pool needs no series."""
        index = self.spec.labels.index(label)
        for key in [key for key in self._cells if key[index] == value]:
            del self._cells[key]

    def exposed(self) -> list[Metric]:
        """The metric and its twin, if it has one, as of the same moment."""
        spec = self.spec
        made = [_metric(spec.name, spec, spec.labels, self._cells.items())]
        if spec.twin is not None:
            names = tuple(name for name, _ in spec.twin.labels)
            made.append(_metric(spec.twin.name, spec, names, self._summed(spec.twin).items()))
        return made

    def _summed(self, twin: Twin) -> dict[tuple[str, ...], CellT]:
        places = [self.spec.labels.index(source) for _, source in twin.labels]
        groups: dict[tuple[str, ...], CellT] = {}
        for values, cell in self._cells.items():
            key = tuple(values[place] for place in places)
            if key not in groups:
                groups[key] = self._cell(self.spec)
            groups[key].merged(cell)
        return groups


def exposed(spec: Spec, rows: Iterable[tuple[tuple[str, ...], float]]) -> list[Metric]:
    """A counter or gauge whose values are read when asked for, and its twin."""
    series = Series(spec, Number)
    for values, value in rows:
        series.at(*values).value += value
    return series.exposed()


def _metric(
    name: str,
    spec: Spec,
    labels: Sequence[str],
    cells: Iterable[tuple[tuple[str, ...], Number]] | Iterable[tuple[tuple[str, ...], Histogram]],
) -> Metric:
    """prometheus_client's form; labelled histograms without an observation are left out."""
    made = Metric(name.removesuffix("_total") if spec.kind == "counter" else name, spec.help, spec.kind)
    for values, cell in cells:
        tags = dict(zip(labels, values, strict=True))
        if isinstance(cell, Number):
            made.add_sample(name, tags, cell.value)
        else:
            _add_buckets(made, tags, cell)
    return made


def _add_buckets(made: Metric, tags: dict[str, str], cell: Histogram) -> None:
    if tags and not any(cell.counts):
        return
    running = 0
    for bound, count in zip((*cell.bounds, float("inf")), cell.counts, strict=True):
        running += count
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        made.add_sample(f"{made.name}_bucket", {**tags, "le": le}, running)
    made.add_sample(f"{made.name}_count", tags, running)
    made.add_sample(f"{made.name}_sum", tags, cell.sum)


class Names:
    """Lets a bounded number of distinct values through; the rest become `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def admit(self, name: str) -> str:
        """The name itself, or `other` once `limit` different ones are known."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
