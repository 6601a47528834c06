"""A metrics page to columns, for one engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, nan

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
from epp.errors import SourceError
from epp.sources.promtext import Page, Sample, Series
from epp.sources.specs import Labels, Spec

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


class PageReader:
    """Reads the successive pages of one endpoint; remembers where the series stood."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._gauges = [
            (gauge.column, gauge.fold, [(Series(spec.metric), spec) for spec in gauge.specs]) for gauge in engine.gauges
        ]
        self._lora = Series(engine.lora.metric) if engine.lora else None
        self._cache_info = Series(engine.cache_info.metric) if engine.cache_info else None
        self._adapters: tuple[bytes, Adapters, float] = (b"", NO_ADAPTERS, nan)

    def read(self, page: Page, start: int = 0, end: int | None = None) -> Reading:
        """Columns and adapters on the page at `page[start:end]`; a column without a usable series is left out.

        SourceError if no series of the engine is there at all: not its page.
        """
        values: dict[Column, float] = {}
        if self._cache_info is not None:
            self._read_cache_info(self._cache_info.read(page, start, end), values)
        for column, fold, alternatives in self._gauges:
            for series, spec in alternatives:
                samples = series.read(page, start, end)
                found = [value for block, value in samples if isfinite(value) and self._fits(spec, block)]
                if found:
                    values[column] = fold(found) if len(found) > 1 else found[0]
                    break
        if not values:
            self.forget()
            raise SourceError(f"no series of engine {self.engine.name!r} on the page")
        if self._lora is None:
            return values, NO_ADAPTERS
        return values, self._read_lora(self._lora.read(page, start, end), values)

    def forget(self) -> None:
        """Searches the next page from its beginning."""
        for _, _, alternatives in self._gauges:
            for series, _ in alternatives:
                series.forget()
        for optional in (self._lora, self._cache_info):
            if optional is not None:
                optional.forget()

    def _fits(self, spec: Spec | None, block: bytes) -> bool:
        if spec is None or not spec.labels:
            return True
        labels = self.engine.labels.of(block)
        return all(labels.get(name) == value for name, value in spec.labels.items())

    def _read_cache_info(self, samples: list[Sample], values: dict[Column, float]) -> None:
        """Block size of the first engine (they share one configuration), blocks of all of them."""
        engine = self.engine
        blocks = 0.0
        for block, _ in samples:
            if self._fits(engine.cache_info, block):
                labels = engine.labels.of(block)
                size, count = _number(labels, engine.block_size_label), _number(labels, engine.block_count_label)
                if size > 0:
                    values.setdefault(BLOCK_SIZE, size)
                if count > 0:
                    blocks += count
        if blocks:
            values[BLOCK_COUNT] = blocks

    def _read_lora(self, samples: list[Sample], values: dict[Column, float]) -> Adapters:
        """vLLM adds a series for every combination of adapters that ever ran, valued with the time it was last true
        and never removed: the greatest value is now."""
        newest, best = b"", -inf
        for block, value in samples:
            if value > best and self._fits(self.engine.lora, block):
                newest, best = block, value
        if not newest:
            return NO_ADAPTERS
        if newest != self._adapters[0]:
            labels = self.engine.labels.of(newest)
            adapters = Adapters(
                running=_names(labels.get("running_lora_adapters", "")),
                waiting=_names(labels.get("waiting_lora_adapters", "")),
            )
            self._adapters = newest, adapters, _number(labels, "max_lora")
        _, adapters, limit = self._adapters
        if limit >= 0:
            values[MAX_LORA] = limit
        return adapters


def _number(labels: Mapping[str, str], name: str) -> float:
    """A label as a number; NaN if it is none (vLLM writes `None` until the cache is sized)."""
    try:
        number = float(labels.get(name, "nan"))
    except ValueError:
        return nan
    return number if isfinite(number) else nan


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())
