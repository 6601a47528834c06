"""Reads column values and LoRA adapters from the metrics pages of one engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, isnan, nan
from operator import itemgetter

from epp.api import (
    KV_BLOCK_COUNT,
    KV_BLOCK_SIZE,
    KV_CACHE_USAGE,
    MAX_LORAS,
    NO_LORA_ADAPTERS,
    RUNNING_REQUESTS,
    WAITING_REQUESTS,
    Column,
    EndpointExtractor,
    EndpointUpdate,
    LoraAdapters,
    MetricsPage,
)
from epp.datalayer.scrape.metric_spec import LabelCache, MetricSpec
from epp.datalayer.scrape.promtext import Page, Sample, SeriesReader
from epp.errors import DataSourceError

Aggregate = Callable[[list[float]], float]
"""Combines the values of several series of one metric."""
PageValues = tuple[dict[Column, float], LoraAdapters]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class ColumnSpec:
    """A column, and the series it is read from: those of the first of `specs` that is on the page, aggregated."""

    __slots__ = ("aggregate", "column", "specs")

    def __init__(self, column: Column, specs: Sequence[MetricSpec], aggregate: Aggregate) -> None:
        self.column = column
        self.specs = specs
        self.aggregate = aggregate


class EngineMetrics:
    """The parsed metric specifications of one engine, shared by the readers of its endpoints.

    An empty specification switches a quantity off. ValueError if one is malformed.
    """

    def __init__(
        self,
        name: str,
        *,
        waiting: str = "",
        running: str = "",
        kv_usage: Sequence[str] = (),
        lora: str = "",
        cache_info: str = "",
        block_size_label: str = "block_size",
        block_count_label: str = "num_gpu_blocks",
        block_size: str = "",
        block_count: str = "",
        custom: Mapping[Column, str] | None = None,
    ) -> None:
        self.name = name
        self.lora = MetricSpec.parse(lora)
        self.cache_info = MetricSpec.parse(cache_info)
        self.block_size_label = block_size_label
        self.block_count_label = block_count_label
        columns: list[tuple[Column, Sequence[str], Aggregate]] = [
            (WAITING_REQUESTS, (waiting,), sum),
            (RUNNING_REQUESTS, (running,), sum),
            (KV_CACHE_USAGE, kv_usage, _mean),
            (KV_BLOCK_SIZE, (block_size,), max),
            (KV_BLOCK_COUNT, (block_count,), sum),
            *((column, (text,), sum) for column, text in (custom or {}).items()),
        ]
        self.column_specs = [
            ColumnSpec(column, specs, aggregate)
            for column, texts, aggregate in columns
            if (specs := [spec for text in texts if (spec := MetricSpec.parse(text)) is not None])
        ]
        self.label_cache = LabelCache()


class _SpecReader:
    """Reads the series of one specification on successive pages; filters and aggregates only when they have changed."""

    __slots__ = ("_aggregate", "_label_cache", "_last_value", "_samples", "_series", "_spec")

    def __init__(self, spec: MetricSpec, label_cache: LabelCache, aggregate: Aggregate = sum) -> None:
        self._series = SeriesReader(spec.metric)
        self._spec = spec
        self._label_cache = label_cache
        self._aggregate = aggregate
        self._samples: list[Sample] | None = None
        self._last_value = nan

    def reset(self) -> None:
        self._series.reset()

    def read_changed(self, page: Page, start: int, end: int | None) -> list[Sample] | None:
        """The samples with the labels of the specification; None if the series have not changed since the last page."""
        samples = self._series.read(page, start, end)
        if samples is self._samples:
            return None
        self._samples = samples
        required = self._spec.labels
        if not required:
            return samples
        return [sample for sample in samples if required.items() <= self._label_cache.parse(sample[0]).items()]

    def read_value(self, page: Page, start: int, end: int | None) -> float:
        """The aggregated value of the series; NaN if there is none."""
        samples = self.read_changed(page, start, end)
        if samples is not None:
            found = [value for _, value in samples if isfinite(value)]
            self._last_value = self._aggregate(found) if found else nan
        return self._last_value


class MetricsPageReader(EndpointExtractor):
    """Reads the successive pages of one endpoint."""

    def __init__(self, engine: EngineMetrics) -> None:
        self.engine = engine
        self._column_readers = [
            (each.column, [_SpecReader(spec, engine.label_cache, each.aggregate) for spec in each.specs])
            for each in engine.column_specs
        ]
        self._lora_reader = _SpecReader(engine.lora, engine.label_cache) if engine.lora else None
        self._cache_info_reader = _SpecReader(engine.cache_info, engine.label_cache) if engine.cache_info else None
        self._cache_sizes = (nan, nan)
        self._adapters = NO_LORA_ADAPTERS
        self._max_lora = nan

    def extract(self, payload: MetricsPage) -> EndpointUpdate:
        """Columns and LoRA adapters on a page, see `read`."""
        values, adapters = self.read(payload.buffer, payload.start, payload.end)
        return EndpointUpdate(values, adapters)

    def read(self, page: Page, start: int = 0, end: int | None = None) -> PageValues:
        """Column values and LoRA adapters in `page[start:end]`. A column without a valid series is NaN or left out.

        DataSourceError if the page has no series of the engine at all: it is another server's.
        """
        values: dict[Column, float] = {}
        if self._cache_info_reader is not None:
            samples = self._cache_info_reader.read_changed(page, start, end)
            if samples is not None:
                self._cache_sizes = self._parse_cache_info(samples)
            values[KV_BLOCK_SIZE], values[KV_BLOCK_COUNT] = self._cache_sizes
        for column, alternatives in self._column_readers:
            for reader in alternatives:
                value = reader.read_value(page, start, end)
                if value == value:  # noqa: PLR0124 - false for NaN, and faster than isnan
                    values[column] = value
                    break
        if self._lora_reader is not None:
            samples = self._lora_reader.read_changed(page, start, end)
            if samples is not None:
                self._parse_lora(samples)
            values[MAX_LORAS] = self._max_lora
        if all(map(isnan, values.values())):
            self.reset()
            raise DataSourceError(f"no series of engine {self.engine.name!r} on the page")
        return values, self._adapters

    def reset(self) -> None:
        """Searches the next page from its beginning."""
        for reader in (
            self._lora_reader,
            self._cache_info_reader,
            *itertools.chain(*(alternatives for _, alternatives in self._column_readers)),
        ):
            if reader is not None:
                reader.reset()

    def _parse_cache_info(self, samples: list[Sample]) -> tuple[float, float]:
        """Block size of the first engine (all engines of a server share it), and the blocks of all engines together."""
        engine = self.engine
        size, blocks = nan, 0.0
        for block, _ in samples:
            labels = engine.label_cache.parse(block)
            if isnan(size):
                size = _positive_label(labels, engine.block_size_label)
            count = _positive_label(labels, engine.block_count_label)
            blocks += 0.0 if isnan(count) else count
        return size, blocks or nan

    def _parse_lora(self, samples: list[Sample]) -> None:
        """Reads the adapters from the series with the greatest value.

        vLLM's `lora_requests_info` gets a series for each combination of adapters that ever ran. Its value is the time
        at which the combination was last in use; series are never removed.
        """
        self._adapters, self._max_lora = NO_LORA_ADAPTERS, nan
        known = [sample for sample in samples if not isnan(sample[1])]
        if known:
            labels = self.engine.label_cache.parse(max(known, key=itemgetter(1))[0])
            running, waiting = labels.get("running_lora_adapters", ""), labels.get("waiting_lora_adapters", "")
            self._adapters = LoraAdapters(running=_split_names(running), waiting=_split_names(waiting))
            self._max_lora = _positive_label(labels, "max_lora")


def _positive_label(labels: Mapping[str, str], name: str) -> float:
    """The value of a label as a positive number; else NaN (vLLM writes `None` until the size of its cache is known)."""
    try:
        number = float(labels.get(name, "nan"))
    except ValueError:
        return nan
    return number if 0 < number < inf else nan


def _split_names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())
