"""A metrics page to columns, for one engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, isnan, nan
from operator import itemgetter

from epp.api import (
    BLOCK_COUNT,
    BLOCK_SIZE,
    KV_USAGE,
    MAX_LORA,
    NO_ADAPTERS,
    RUNNING,
    WAITING,
    Adapters,
    Column,
)
from epp.datalayer.scrape.metric_spec import Labels, Spec
from epp.datalayer.scrape.promtext import Page, Sample, Series
from epp.errors import SourceError

Fold = Callable[[list[float]], float]
Reading = tuple[dict[Column, float], Adapters]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class Gauge:
    """A column read from the values of series: the first of `specs` that is on the page, folded."""

    __slots__ = ("column", "fold", "specs")

    def __init__(self, column: Column, specs: Sequence[Spec], fold: Fold) -> None:
        self.column = column
        self.specs = specs
        self.fold = fold


class Engine:
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
        self.lora = Spec.parse(lora)
        self.cache_info = Spec.parse(cache_info)
        self.block_size_label = block_size_label
        self.block_count_label = block_count_label
        wanted: list[tuple[Column, Sequence[str], Fold]] = [
            (WAITING, (waiting,), sum),
            (RUNNING, (running,), sum),
            (KV_USAGE, kv_usage, _mean),
            (BLOCK_SIZE, (block_size,), max),
            (BLOCK_COUNT, (block_count,), sum),
            *((column, (text,), sum) for column, text in (custom or {}).items()),
        ]
        self.gauges = [
            Gauge(column, specs, fold)
            for column, texts, fold in wanted
            if (specs := [spec for text in texts if (spec := Spec.parse(text)) is not None])
        ]
        self.labels = Labels()


class _Tracked:
    """One specification on the successive pages of one endpoint; works on it only when its series have changed."""

    __slots__ = ("_fold", "_known", "_labels", "_samples", "_series", "_spec")

    def __init__(self, spec: Spec, labels: Labels, fold: Fold = sum) -> None:
        self._series = Series(spec.metric)
        self._spec = spec
        self._labels = labels
        self._fold = fold
        self._samples: list[Sample] | None = None
        self._known = nan

    def forget(self) -> None:
        self._series.forget()

    def changed(self, page: Page, start: int, end: int | None) -> list[Sample] | None:
        """The samples with the right labels; None if they are what they were."""
        samples = self._series.read(page, start, end)
        if samples is self._samples:
            return None
        self._samples = samples
        wanted = self._spec.labels
        if not wanted:
            return samples
        return [sample for sample in samples if wanted.items() <= self._labels.of(sample[0]).items()]

    def value(self, page: Page, start: int, end: int | None) -> float:
        """The series folded into one number; NaN if there is none."""
        samples = self.changed(page, start, end)
        if samples is not None:
            found = [value for _, value in samples if isfinite(value)]
            self._known = self._fold(found) if found else nan
        return self._known


class PageReader:
    """Reads the successive pages of one endpoint."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._gauges = [
            (gauge.column, [_Tracked(spec, engine.labels, gauge.fold) for spec in gauge.specs])
            for gauge in engine.gauges
        ]
        self._lora = _Tracked(engine.lora, engine.labels) if engine.lora else None
        self._cache_info = _Tracked(engine.cache_info, engine.labels) if engine.cache_info else None
        self._cache = (nan, nan)
        self._adapters = NO_ADAPTERS
        self._max_lora = nan

    def read(self, page: Page, start: int = 0, end: int | None = None) -> Reading:
        """Columns and adapters on the page at `page[start:end]`; a column without a usable series is NaN or left out.

        SourceError if no series of the engine is there at all: not its page.
        """
        values: dict[Column, float] = {}
        if self._cache_info is not None:
            samples = self._cache_info.changed(page, start, end)
            if samples is not None:
                self._cache = self._cache_of(samples)
            values[BLOCK_SIZE], values[BLOCK_COUNT] = self._cache
        for column, alternatives in self._gauges:
            for tracked in alternatives:
                value = tracked.value(page, start, end)
                if value == value:  # noqa: PLR0124 - NaN is not
                    values[column] = value
                    break
        if self._lora is not None:
            samples = self._lora.changed(page, start, end)
            if samples is not None:
                self._read_lora(samples)
            values[MAX_LORA] = self._max_lora
        if all(map(isnan, values.values())):
            self.forget()
            raise SourceError(f"no series of engine {self.engine.name!r} on the page")
        return values, self._adapters

    def forget(self) -> None:
        """Searches the next page from its beginning."""
        for tracked in (self._lora, self._cache_info, *itertools.chain(*(sources for _, sources in self._gauges))):
            if tracked is not None:
                tracked.forget()

    def _cache_of(self, samples: list[Sample]) -> tuple[float, float]:
        """Block size of the first engine (they share one configuration), blocks of all of them."""
        engine = self.engine
        size, blocks = nan, 0.0
        for block, _ in samples:
            labels = engine.labels.of(block)
            if isnan(size):
                size = _positive(labels, engine.block_size_label)
            count = _positive(labels, engine.block_count_label)
            blocks += 0.0 if isnan(count) else count
        return size, blocks or nan

    def _read_lora(self, samples: list[Sample]) -> None:
        """vLLM adds a series for every combination of adapters that ever ran, valued with the time it was last true
        and never removed: the greatest value is now."""
        self._adapters, self._max_lora = NO_ADAPTERS, nan
        known = [sample for sample in samples if not isnan(sample[1])]
        if known:
            labels = self.engine.labels.of(max(known, key=itemgetter(1))[0])
            running, waiting = labels.get("running_lora_adapters", ""), labels.get("waiting_lora_adapters", "")
            self._adapters = Adapters(running=_names(running), waiting=_names(waiting))
            self._max_lora = _positive(labels, "max_lora")


def _positive(labels: Mapping[str, str], name: str) -> float:
    """A label as a number above zero; NaN if it is none (vLLM writes `None` until the cache is sized)."""
    try:
        number = float(labels.get(name, "nan"))
    except ValueError:
        return nan
    return number if 0 < number < inf else nan


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())
