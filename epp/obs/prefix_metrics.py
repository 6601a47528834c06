"""The prefix index's own numbers, read from the plugin that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from epp.obs.metric_cells import Histogram, Series, exposed
from epp.obs.metric_table import PREFIX

_SIZE, _RATIO, _BYTES = PREFIX


class Counted(Protocol):
    """Observations by upper bound."""

    sum: float

    def cumulative(self) -> Sequence[int]:
        """Observations up to each bound, and all of them last."""


class PrefixStats(Protocol):
    """What an index tells: blocks it holds, and of each routed prompt the part held where it went."""

    @property
    def blocks(self) -> int: ...

    @property
    def hit_ratio(self) -> Counted: ...

    @property
    def hit_bytes(self) -> Counted: ...


class PrefixView(Collector):
    """Shows the index of each plugin: (configured name, type, its `stats`)."""

    def __init__(self, indexes: Sequence[tuple[str, str, Callable[[], PrefixStats]]]) -> None:
        self._indexes = indexes

    def collect(self) -> Iterable[Metric]:
        """Size and hits under both names."""
        stats = [((name, type), read()) for name, type, read in self._indexes]
        yield from exposed(_SIZE, [(at, found.blocks) for at, found in stats])
        ratios, sizes = Series(_RATIO, Histogram), Series(_BYTES, Histogram)
        for at, found in stats:
            _fill(ratios.at(*at), found.hit_ratio)
            _fill(sizes.at(*at), found.hit_bytes)
        yield from ratios.exposed()
        yield from sizes.exposed()


def _fill(cell: Histogram, counted: Counted) -> None:
    cell.counts = [upper - lower for lower, upper in pairwise((0, *counted.cumulative()))]
    cell.sum = counted.sum
