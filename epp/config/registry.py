"""Which plugin types there are: entry points of every installed package, imported when first named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from epp.api import Plugin
from epp.config.llmd_types import LLM_D_TYPES
from epp.errors import ConfigError, EppError, Problem

GROUP = "epp.plugins"


class UnknownType(EppError):
    """No installed package registers such a plugin type."""


class Registry:
    """Plugin types by name."""

    def __init__(self, sources: Mapping[str, EntryPoint | type[Plugin]]) -> None:
        self._sources = dict(sources)
        self._found: dict[str, type[Plugin]] = {}

    @classmethod
    def load(cls, points: Iterable[EntryPoint] | None = None) -> Registry:
        """All installed types; `ConfigError` when two packages register the same one. Imports none of them."""
        found: dict[str, EntryPoint] = {}
        problems: list[Problem] = []
        for point in entry_points(group=GROUP) if points is None else points:
            first = found.setdefault(point.name, point)
            if first is not point:
                both = f"{_origin(first)} ({first.value}) and {_origin(point)} ({point.value})"
                problems.append(Problem("", f"plugin type {point.name!r} is registered twice: by {both}"))
        if problems:
            raise ConfigError(problems, f"entry points {GROUP!r}")
        return cls(found)

    @classmethod
    def of(cls, classes: Mapping[str, type[Plugin]]) -> Registry:
        """Just these."""
        return cls(classes)

    def __contains__(self, type: str) -> bool:
        return type in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._sources))

    def origin(self, type: str) -> str:
        """The package that registers the type; empty for a class given by hand."""
        source = self._sources[type]
        return _origin(source) if isinstance(source, EntryPoint) else ""

    def find(self, name: str) -> type[Plugin]:
        """The class; `UnknownType`, or `EppError` if its package is broken."""
        if name in self._found:
            return self._found[name]
        source = self._sources.get(name)
        if source is None:
            raise UnknownType(self._unknown(name))
        if not isinstance(source, EntryPoint):
            return source
        try:
            found = source.load()
        except Exception as error:
            raise EppError(
                f"plugin {name!r} of {_origin(source)} cannot be imported from {source.value}: "
                f"{error.__class__.__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Plugin)):
            raise EppError(f"plugin {name!r} of {_origin(source)}: {source.value} is not a plugin class of epp.api")
        self._found[name] = found
        return found

    def _unknown(self, type: str) -> str:
        if type in LLM_D_TYPES:
            return f"llm-d's plugin {type!r} is not available yet; available: {', '.join(self)}"
        close = difflib.get_close_matches(type, self._sources, 3, cutoff=0.8)
        if close:
            return f"unknown plugin type {type!r}; did you mean {' or '.join(close)}?"
        return f"unknown plugin type {type!r}; available: {', '.join(self)}"


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
