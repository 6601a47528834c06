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

OVERFLOW_LABEL = "other"

MetricType = Literal["counter", "gauge", "histogram"]


class LegacyAlias(msgspec.Struct, frozen=True):
    """An older name of a metric. `labels`: (label of the twin, label it is taken from); the others are summed over."""

    name: str
    label_sources: tuple[tuple[str, str], ...] = ()


class MetricDefinition(msgspec.Struct, frozen=True):
    """One metric: what is exposed, and under which names. `limit`: label combinations before `other` is used."""

    name: str
    type: MetricType
    help: str
    label_names: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    alias: LegacyAlias | None = None
    max_label_sets: int = 10_000


class ValueCell:
    """A counter or a gauge: add to `value`."""

    __slots__ = ("value",)

    def __init__(self, spec: MetricDefinition) -> None:
        self.value = 0.0

    def merge(self, other: ValueCell) -> None:
        """Takes the other's value in."""
        self.value += other.value


class HistogramCell:
    """Observations counted by bucket; the last count is that of +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, spec: MetricDefinition) -> None:
        self.bounds = spec.buckets
        self.counts = [0] * (len(spec.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: HistogramCell) -> None:
        """Takes the other's observations in."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


CellT = TypeVar("CellT", ValueCell, HistogramCell)


class MetricVec(Generic[CellT]):
    """All cells of one metric."""

    def __init__(self, spec: MetricDefinition, cell: type[CellT]) -> None:
        self.definition = spec
        self._cell: type[CellT] = cell
        self._cells: dict[tuple[str, ...], CellT] = {}
        if not spec.label_names:
            self.labels()

    def labels(self, *values: str) -> CellT:
        """The cell of these label values, made on first use; `other` everywhere once the limit is reached."""
        found = self._cells.get(values)
        if found is None:
            if len(values) != len(self.definition.label_names):
                raise ValueError(f"{self.definition.name} has labels {self.definition.label_names}, not {values}")
            if len(self._cells) >= self.definition.max_label_sets:
                values = (OVERFLOW_LABEL,) * len(values)
            found = self._cells.setdefault(values, self._cell(self.definition))
        return found

    def remove_matching(self, label: str, value: str) -> None:
        """Forgets every cell with this label value; what left the pool needs no series."""
        index = self.definition.label_names.index(label)
        for key in [key for key in self._cells if key[index] == value]:
            del self._cells[key]

    def collect(self) -> list[Metric]:
        """The metric and its twin, if it has one, as of the same moment."""
        spec = self.definition
        made = [_build_metric(spec.name, spec, spec.label_names, self._cells.items())]
        if spec.alias is not None:
            names = tuple(name for name, _ in spec.alias.label_sources)
            made.append(_build_metric(spec.alias.name, spec, names, self._sum_for_alias(spec.alias).items()))
        return made

    def _sum_for_alias(self, twin: LegacyAlias) -> dict[tuple[str, ...], CellT]:
        places = [self.definition.label_names.index(source) for _, source in twin.label_sources]
        groups: dict[tuple[str, ...], CellT] = {}
        for values, cell in self._cells.items():
            key = tuple(values[place] for place in places)
            if key not in groups:
                groups[key] = self._cell(self.definition)
            groups[key].merge(cell)
        return groups


def collect_values(spec: MetricDefinition, rows: Iterable[tuple[tuple[str, ...], float]]) -> list[Metric]:
    """A counter or gauge whose values are read when asked for, and its twin."""
    series = MetricVec(spec, ValueCell)
    for values, value in rows:
        series.labels(*values).value += value
    return series.collect()


def _build_metric(
    name: str,
    spec: MetricDefinition,
    labels: Sequence[str],
    cells: Iterable[tuple[tuple[str, ...], ValueCell]] | Iterable[tuple[tuple[str, ...], HistogramCell]],
) -> Metric:
    """prometheus_client's form; labelled histograms without an observation are left out."""
    made = Metric(name.removesuffix("_total") if spec.type == "counter" else name, spec.help, spec.type)
    for values, cell in cells:
        tags = dict(zip(labels, values, strict=True))
        if isinstance(cell, ValueCell):
            made.add_sample(name, tags, cell.value)
        else:
            _add_histogram_samples(made, tags, cell)
    return made


def _add_histogram_samples(made: Metric, tags: dict[str, str], cell: HistogramCell) -> None:
    if tags and not any(cell.counts):
        return
    running = 0
    for bound, count in zip((*cell.bounds, float("inf")), cell.counts, strict=True):
        running += count
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        made.add_sample(f"{made.name}_bucket", {**tags, "le": le}, running)
    made.add_sample(f"{made.name}_count", tags, running)
    made.add_sample(f"{made.name}_sum", tags, cell.sum)


class LabelLimiter:
    """Lets a bounded number of distinct values through; the rest become `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def admit(self, name: str) -> str:
        """The name itself, or `other` once `limit` different ones are known."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OVERFLOW_LABEL
        self._known.add(name)
        return name
