"""The registry of plugin types: entry points of all installed packages, imported when first named."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from epp.api import Plugin
from epp.config.llmd_types import LLMD_PLUGIN_TYPES
from epp.errors import ConfigError, EppError, Problem

ENTRY_POINT_GROUP = "epp.plugins"


class UnknownPluginType(EppError):
    """No installed package registers this plugin type."""


class PluginRegistry:
    """Plugin classes by type name. Classes of entry points are imported at the first `find_class`, then kept."""

    def __init__(self, sources: Mapping[str, EntryPoint | type[Plugin]]) -> None:
        self._sources = dict(sources)
        self._classes: dict[str, type[Plugin]] = {}

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> PluginRegistry:
        """The types of all installed packages, not yet imported; `ConfigError` if two packages register one type."""
        # Not imported here: a broken package must not prevent a configuration that does not name its plugins.
        registered: dict[str, EntryPoint] = {}
        problems: list[Problem] = []
        for point in entry_points(group=ENTRY_POINT_GROUP) if points is None else points:
            first = registered.setdefault(point.name, point)
            if first is not point:
                both = f"{_package_name(first)} ({first.value}) and {_package_name(point)} ({point.value})"
                problems.append(Problem("", f"plugin type {point.name!r} is registered twice: by {both}"))
        if problems:
            raise ConfigError(problems, f"entry points {ENTRY_POINT_GROUP!r}")
        return cls(registered)

    @classmethod
    def from_classes(cls, classes: Mapping[str, type[Plugin]]) -> PluginRegistry:
        """A registry of these classes only, by type name."""
        return cls(classes)

    def __contains__(self, type: str) -> bool:
        return type in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._sources))

    def package_of(self, type: str) -> str:
        """The distribution that registers the type; "" for a class given to `from_classes`."""
        source = self._sources[type]
        return _package_name(source) if isinstance(source, EntryPoint) else ""

    def find_class(self, name: str) -> type[Plugin]:
        """The class of a type; `UnknownPluginType`, or `EppError` if it cannot be imported or is not a plugin class."""
        if name in self._classes:
            return self._classes[name]
        source = self._sources.get(name)
        if source is None:
            raise UnknownPluginType(self._unknown_message(name))
        if not isinstance(source, EntryPoint):
            return source
        try:
            plugin_class = source.load()
        except Exception as error:
            raise EppError(
                f"plugin {name!r} of {_package_name(source)} cannot be imported from {source.value}: "
                f"{error.__class__.__name__}: {error}{_failed_statement(error)}"
            ) from error
        if not (isinstance(plugin_class, type) and issubclass(plugin_class, Plugin)):
            raise EppError(
                f"plugin {name!r} of {_package_name(source)}: {source.value} is not a plugin class of epp.api"
            )
        self._classes[name] = plugin_class
        return plugin_class

    def _unknown_message(self, type: str) -> str:
        if type in LLMD_PLUGIN_TYPES:
            return f"llm-d's plugin {type!r} is not available yet; available: {', '.join(self)}"
        close = difflib.get_close_matches(type, self._sources, 3, cutoff=0.8)
        if close:
            return f"unknown plugin type {type!r}; did you mean {' or '.join(close)}?"
        return f"unknown plugin type {type!r}; available: {', '.join(self)}"


def _failed_statement(error: Exception) -> str:
    """File and line of the innermost statement of an imported module that failed; "" if no module was reached."""
    statements = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f" ({statements[-1].filename}, line {statements[-1].lineno})" if statements else ""


def _package_name(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
