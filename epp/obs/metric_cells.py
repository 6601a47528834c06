"""Counters, gauges and histograms that are cheap to write, exposed through prometheus_client.

A `MetricVec` holds one cell for each combination of label values. Callers look a cell up once and keep it; writing is
plain arithmetic on the thread of the event loop, without the locks of prometheus_client's own metrics. Label
dictionaries, cumulative buckets and legacy aliases are built when `/metrics` is read.
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
    """An older name under which a metric is exposed too.

    `label_sources`: pairs of a label of the alias and the metric's label it is taken from. Cells that differ only in
    other labels are summed.
    """

    name: str
    label_sources: tuple[tuple[str, str], ...] = ()


class MetricDefinition(msgspec.Struct, frozen=True):
    """One metric as it is exposed. Above `max_label_sets` combinations of label values, new ones become `other`."""

    name: str
    type: MetricType
    help: str
    label_names: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    alias: LegacyAlias | None = None
    max_label_sets: int = 10_000


class ValueCell:
    """A counter or a gauge; writers add to `value`."""

    __slots__ = ("value",)

    def __init__(self, definition: MetricDefinition) -> None:
        self.value = 0.0

    def merge(self, other: ValueCell) -> None:
        """Adds the other's value."""
        self.value += other.value


class HistogramCell:
    """Observations by bucket, not cumulative; the last count is that of the bucket +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, definition: MetricDefinition) -> None:
        self.bounds = definition.buckets
        self.counts = [0] * (len(definition.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: HistogramCell) -> None:
        """Adds the other's observations."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


CellT = TypeVar("CellT", ValueCell, HistogramCell)


class MetricVec(Generic[CellT]):
    """All cells of one metric (client_golang's `MetricVec`)."""

    def __init__(self, definition: MetricDefinition, cell_type: type[CellT]) -> None:
        self.definition = definition
        self._cell_type: type[CellT] = cell_type
        self._cells: dict[tuple[str, ...], CellT] = {}
        if not definition.label_names:
            self.labels()

    def labels(self, *values: str) -> CellT:
        """The cell of these label values, created on first use; all values are `other` once the limit is reached."""
        cell = self._cells.get(values)
        if cell is None:
            definition = self.definition
            if len(values) != len(definition.label_names):
                raise ValueError(f"{definition.name} has labels {definition.label_names}, not {values}")
            if len(self._cells) >= definition.max_label_sets:
                values = (OVERFLOW_LABEL,) * len(values)
            cell = self._cells.setdefault(values, self._cell_type(definition))
        return cell

    def remove_matching(self, label: str, value: str) -> None:
        """Removes every cell with this label value."""
        index = self.definition.label_names.index(label)
        for key in [key for key in self._cells if key[index] == value]:
            del self._cells[key]

    def collect(self) -> list[Metric]:
        """The metric, and its alias if it has one, as of the same moment."""
        definition = self.definition
        metrics = [_build_metric(definition.name, definition, definition.label_names, self._cells.items())]
        if definition.alias is not None:
            names = tuple(name for name, _ in definition.alias.label_sources)
            cells = self._sum_for_alias(definition.alias)
            metrics.append(_build_metric(definition.alias.name, definition, names, cells.items()))
        return metrics

    def _sum_for_alias(self, alias: LegacyAlias) -> dict[tuple[str, ...], CellT]:
        indices = [self.definition.label_names.index(source) for _, source in alias.label_sources]
        sums: dict[tuple[str, ...], CellT] = {}
        for values, cell in self._cells.items():
            key = tuple(values[index] for index in indices)
            if key not in sums:
                sums[key] = self._cell_type(self.definition)
            sums[key].merge(cell)
        return sums


def collect_values(definition: MetricDefinition, samples: Iterable[tuple[tuple[str, ...], float]]) -> list[Metric]:
    """A counter or gauge, and its alias, from (label values, value) computed at reading time."""
    vec = MetricVec(definition, ValueCell)
    for label_values, value in samples:
        vec.labels(*label_values).value += value
    return vec.collect()


def _build_metric(
    name: str,
    definition: MetricDefinition,
    label_names: Sequence[str],
    cells: Iterable[tuple[tuple[str, ...], ValueCell]] | Iterable[tuple[tuple[str, ...], HistogramCell]],
) -> Metric:
    """prometheus_client's form; labelled histograms without an observation are left out."""
    metric_name = name.removesuffix("_total") if definition.type == "counter" else name
    metric = Metric(metric_name, definition.help, definition.type)
    for values, cell in cells:
        labels = dict(zip(label_names, values, strict=True))
        if isinstance(cell, ValueCell):
            metric.add_sample(name, labels, cell.value)
        else:
            _add_histogram_samples(metric, labels, cell)
    return metric


def _add_histogram_samples(metric: Metric, labels: dict[str, str], cell: HistogramCell) -> None:
    if labels and not any(cell.counts):
        return
    cumulative = 0
    for bound, count in zip((*cell.bounds, float("inf")), cell.counts, strict=True):
        cumulative += count
        le = floatToGoString(bound)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": le}, cumulative)
    metric.add_sample(f"{metric.name}_count", labels, cumulative)
    metric.add_sample(f"{metric.name}_sum", labels, cell.sum)


class LabelLimiter:
    """Admits a bounded number of distinct label values (llm-d's cardinality limits); further ones become `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: set[str] = set()

    def admit(self, value: str) -> str:
        """The value itself, or `other` once `limit` distinct values are known."""
        if value in self._admitted:
            return value
        if len(self._admitted) >= self._limit:
            return OVERFLOW_LABEL
        self._admitted.add(value)
        return value
