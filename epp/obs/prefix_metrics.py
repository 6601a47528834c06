"""The prefix index's own numbers, read from the plugin that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from epp.api import BucketHistogram, PrefixCacheStats
from epp.obs.metric_cells import HistogramCell, MetricVec, collect_values
from epp.obs.metric_table import PREFIX_METRICS

_SIZE, _RATIO, _BYTES = PREFIX_METRICS


class PrefixCacheCollector(Collector):
    """Shows the index of each plugin: (configured name, type, its `stats`)."""

    def __init__(self, indexes: Sequence[tuple[str, str, Callable[[], PrefixCacheStats]]]) -> None:
        self._indexes = indexes

    def collect(self) -> Iterable[Metric]:
        """Size and hits under both names."""
        stats = [((name, type), read()) for name, type, read in self._indexes]
        yield from collect_values(_SIZE, [(at, found.blocks) for at, found in stats])
        ratios, sizes = MetricVec(_RATIO, HistogramCell), MetricVec(_BYTES, HistogramCell)
        for at, found in stats:
            _fill_histogram(ratios.labels(*at), found.hit_ratio)
            _fill_histogram(sizes.labels(*at), found.hit_bytes)
        yield from ratios.collect()
        yield from sizes.collect()


def _fill_histogram(cell: HistogramCell, counted: BucketHistogram) -> None:
    cell.counts = [upper - lower for lower, upper in pairwise((0, *counted.cumulative()))]
    cell.sum = counted.sum
