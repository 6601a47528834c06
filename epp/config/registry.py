"""Which plugin types there are: entry points of every installed package, imported when first named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from epp.api import Plugin
from epp.config.llmd_types import LLMD_PLUGIN_TYPES
from epp.errors import ConfigError, EppError, Problem

ENTRY_POINT_GROUP = "epp.plugins"


class UnknownPluginType(EppError):
    """No installed package registers such a plugin type."""


class PluginRegistry:
    """Plugin types by name."""

    def __init__(self, sources: Mapping[str, EntryPoint | type[Plugin]]) -> None:
        self._sources = dict(sources)
        self._classes: dict[str, type[Plugin]] = {}

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> PluginRegistry:
        """All installed types; `ConfigError` when two packages register the same one. Imports none of them."""
        found: dict[str, EntryPoint] = {}
        problems: list[Problem] = []
        for point in entry_points(group=ENTRY_POINT_GROUP) if points is None else points:
            first = found.setdefault(point.name, point)
            if first is not point:
                both = f"{_package_name(first)} ({first.value}) and {_package_name(point)} ({point.value})"
                problems.append(Problem("", f"plugin type {point.name!r} is registered twice: by {both}"))
        if problems:
            raise ConfigError(problems, f"entry points {ENTRY_POINT_GROUP!r}")
        return cls(found)

    @classmethod
    def from_classes(cls, classes: Mapping[str, type[Plugin]]) -> PluginRegistry:
        """Just these."""
        return cls(classes)

    def __contains__(self, type: str) -> bool:
        return type in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._sources))

    def package_of(self, type: str) -> str:
        """The package that registers the type; empty for a class given by hand."""
        source = self._sources[type]
        return _package_name(source) if isinstance(source, EntryPoint) else ""

    def find_class(self, name: str) -> type[Plugin]:
        """The class; `UnknownType`, or `EppError` if its package is broken."""
        if name in self._classes:
            return self._classes[name]
        source = self._sources.get(name)
        if source is None:
            raise UnknownPluginType(self._unknown_message(name))
        if not isinstance(source, EntryPoint):
            return source
        try:
            found = source.load()
        except Exception as error:
            raise EppError(
                f"plugin {name!r} of {_package_name(source)} cannot be imported from {source.value}: "
                f"{error.__class__.__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Plugin)):
            raise EppError(
                f"plugin {name!r} of {_package_name(source)}: {source.value} is not a plugin class of epp.api"
            )
        self._classes[name] = found
        return found

    def _unknown_message(self, type: str) -> str:
        if type in LLMD_PLUGIN_TYPES:
            return f"llm-d's plugin {type!r} is not available yet; available: {', '.join(self)}"
        close = difflib.get_close_matches(type, self._sources, 3, cutoff=0.8)
        if close:
            return f"unknown plugin type {type!r}; did you mean {' or '.join(close)}?"
        return f"unknown plugin type {type!r}; available: {', '.join(self)}"


def _package_name(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
