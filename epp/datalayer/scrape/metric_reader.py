"""A metrics page to columns, for one engine."""

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
PageValues = tuple[dict[Column, float], LoraAdapters]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class ColumnSpec:
    """A column read from the values of series: the first of `specs` that is on the page, folded."""

    __slots__ = ("aggregate", "column", "specs")

    def __init__(self, column: Column, specs: Sequence[MetricSpec], fold: Aggregate) -> None:
        self.column = column
        self.specs = specs
        self.aggregate = fold


class EngineMetrics:
    """Specifications of one engine, checked and compiled; shared by the readers of its endpoints."""

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
        wanted: list[tuple[Column, Sequence[str], Aggregate]] = [
            (WAITING_REQUESTS, (waiting,), sum),
            (RUNNING_REQUESTS, (running,), sum),
            (KV_CACHE_USAGE, kv_usage, _mean),
            (KV_BLOCK_SIZE, (block_size,), max),
            (KV_BLOCK_COUNT, (block_count,), sum),
            *((column, (text,), sum) for column, text in (custom or {}).items()),
        ]
        self.column_specs = [
            ColumnSpec(column, specs, fold)
            for column, texts, fold in wanted
            if (specs := [spec for text in texts if (spec := MetricSpec.parse(text)) is not None])
        ]
        self.label_cache = LabelCache()


class _SpecReader:
    """One specification on the successive pages of one endpoint; works on it only when its series have changed."""

    __slots__ = ("_aggregate", "_label_cache", "_last_value", "_samples", "_series", "_spec")

    def __init__(self, spec: MetricSpec, labels: LabelCache, fold: Aggregate = sum) -> None:
        self._series = SeriesReader(spec.metric)
        self._spec = spec
        self._label_cache = labels
        self._aggregate = fold
        self._samples: list[Sample] | None = None
        self._last_value = nan

    def reset(self) -> None:
        self._series.reset()

    def read_changed(self, page: Page, start: int, end: int | None) -> list[Sample] | None:
        """The samples with the right labels; None if they are what they were."""
        samples = self._series.read(page, start, end)
        if samples is self._samples:
            return None
        self._samples = samples
        wanted = self._spec.labels
        if not wanted:
            return samples
        return [sample for sample in samples if wanted.items() <= self._label_cache.parse(sample[0]).items()]

    def read_value(self, page: Page, start: int, end: int | None) -> float:
        """The series folded into one number; NaN if there is none."""
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
            (gauge.column, [_SpecReader(spec, engine.label_cache, gauge.aggregate) for spec in gauge.specs])
            for gauge in engine.column_specs
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
        """Columns and adapters on the page at `page[start:end]`; a column without a usable series is NaN or left out.

        SourceError if no series of the engine is there at all: not its page.
        """
        values: dict[Column, float] = {}
        if self._cache_info_reader is not None:
            samples = self._cache_info_reader.read_changed(page, start, end)
            if samples is not None:
                self._cache_sizes = self._parse_cache_info(samples)
            values[KV_BLOCK_SIZE], values[KV_BLOCK_COUNT] = self._cache_sizes
        for column, alternatives in self._column_readers:
            for tracked in alternatives:
                value = tracked.read_value(page, start, end)
                if value == value:  # noqa: PLR0124 - NaN is not
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
        for tracked in (
            self._lora_reader,
            self._cache_info_reader,
            *itertools.chain(*(sources for _, sources in self._column_readers)),
        ):
            if tracked is not None:
                tracked.reset()

    def _parse_cache_info(self, samples: list[Sample]) -> tuple[float, float]:
        """Block size of the first engine (they share one configuration), blocks of all of them."""
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
        """vLLM adds a series for every combination of adapters that ever ran, valued with the time it was last true
        and never removed: the greatest value is now."""
        self._adapters, self._max_lora = NO_LORA_ADAPTERS, nan
        known = [sample for sample in samples if not isnan(sample[1])]
        if known:
            labels = self.engine.label_cache.parse(max(known, key=itemgetter(1))[0])
            running, waiting = labels.get("running_lora_adapters", ""), labels.get("waiting_lora_adapters", "")
            self._adapters = LoraAdapters(running=_split_names(running), waiting=_split_names(waiting))
            self._max_lora = _positive_label(labels, "max_lora")


def _positive_label(labels: Mapping[str, str], name: str) -> float:
    """A label as a number above zero; NaN if it is none (vLLM writes `None` until the cache is sized)."""
    try:
        number = float(labels.get(name, "nan"))
    except ValueError:
        return nan
    return number if 0 < number < inf else nan


def _split_names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())
