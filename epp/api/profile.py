"""A scheduling profile: what the configuration names and the pipeline runs."""

from __future__ import annotations

from collections.abc import Sequence

from epp.api.plugins import Filter, Picker, Scorer


class SchedulerProfile:
    """Filters in order, weighted scorers, one picker; each with the name that the configuration gave it."""

    __slots__ = ("filters", "name", "picker", "scorers")

    def __init__(
        self,
        name: str,
        *,
        filters: Sequence[tuple[str, Filter]] = (),
        scorers: Sequence[tuple[str, float, Scorer]] = (),
        picker: tuple[str, Picker],
    ) -> None:
        self.name = name
        self.filters = tuple(filters)
        self.scorers = tuple(scorers)
        self.picker = picker

    def __repr__(self) -> str:
        return f"Profile({self.name!r})"
