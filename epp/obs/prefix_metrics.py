"""The metrics of prefix indexes, collected from the plugins that have one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from epp.api import BucketHistogram, Plugin, PrefixCacheStatsProvider
from epp.obs.metric_cells import HistogramCell, MetricVec, collect_values
from epp.obs.metric_table import PREFIX_METRICS
from epp.scheduling.plugin_metrics import ReportPluginError

_SIZE, _HIT_RATIO, _HIT_BYTES = PREFIX_METRICS


class PrefixCacheCollector(Collector):
    """llm-d's `prefix_indexer_*` for every `PrefixCacheStatsProvider` among the plugins, by configured name.

    A provider that raises is reported and left out.
    """

    def __init__(self, plugins: Mapping[str, Plugin], report_error: ReportPluginError) -> None:
        self._providers = {
            (name, type(plugin).type): plugin
            for name, plugin in plugins.items()
            if isinstance(plugin, PrefixCacheStatsProvider)
        }
        self._report_error = report_error

    def collect(self) -> Iterable[Metric]:
        sizes: list[tuple[tuple[str, ...], float]] = []
        ratios, hit_bytes = MetricVec(_HIT_RATIO, HistogramCell), MetricVec(_HIT_BYTES, HistogramCell)
        for labels, provider in self._providers.items():
            try:
                stats = provider.prefix_cache_stats()
            except Exception:
                self._report_error(labels[0], "observer")
                continue
            sizes.append((labels, stats.blocks))
            _fill_histogram(ratios.labels(*labels), stats.hit_ratio)
            _fill_histogram(hit_bytes.labels(*labels), stats.hit_bytes)
        return (*collect_values(_SIZE, sizes), *ratios.collect(), *hit_bytes.collect())


def _fill_histogram(cell: HistogramCell, histogram: BucketHistogram) -> None:
    cell.counts = [upper - lower for lower, upper in pairwise((0, *histogram.cumulative()))]
    cell.sum = histogram.sum
