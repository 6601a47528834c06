"""Which producers run, in which order, and which of several is meant by a plugin that needs what they give.

A plugin with a parameter `…ProducerName` means the producer of that name, and reads what that one tells
(`Column.told_by`). A plugin that names none means the producer called as its type is, which is made if nobody declared
it, as in llm-d; a single producer that nobody names is meant as well, however it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from epp.api import (
    COUNTED,
    INFLIGHT_TOKENS,
    PREFIX_BLOCKS,
    PREFIX_INFO,
    PROMPT,
    SCRAPED,
    UNCACHED_TOKENS,
    AsyncProducer,
    Endpoints,
    Need,
    Plugin,
    Produced,
    Producer,
    Request,
)
from epp.config.plugin_set import Declarations, Declared

DEFAULT_PRODUCERS: Final[dict[Need, str]] = {
    PREFIX_BLOCKS: "approx-prefix-cache-producer",
    PREFIX_INFO: "approx-prefix-cache-producer",
    PROMPT: "token-producer",
    UNCACHED_TOKENS: "inflight-load-producer",
    INFLIGHT_TOKENS: "inflight-load-producer",
}
FREE: Final = frozenset({*SCRAPED, *COUNTED} - set(DEFAULT_PRODUCERS))
"""Columns that are there without a producer: scraped, or counted in the ledger."""

Givers = dict[Need, Declared]


class Producers:
    """The producers of one configuration, those added by default too; problems go to the declarations."""

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations
        for entry in self._declared():
            entry.used = True
        _check_names(declarations, self._declared())
        self._givers: Givers = {}
        self._settle()
        self._add()
        self._warn()

    def in_order(self) -> list[Declared]:
        """Each after those it needs. Depth first from the file's order: it stays the same as long as the file does."""
        done: list[Declared] = []
        open_: list[Declared] = []

        def visit(entry: Declared) -> None:
            if entry in done:
                return
            if entry in open_:
                circle = [*open_[open_.index(entry) :], entry]
                names = " -> ".join(item.name for item in circle)
                self._declarations.problem(entry.path, f"producers need each other in a circle: {names}")
                return
            open_.append(entry)
            plugin: Plugin | None = entry.plugin
            for need in plugin.wants() if plugin is not None else ():
                giver = self._givers.get(need)
                if giver is not None and giver is not entry:
                    visit(giver)
            open_.pop()
            done.append(entry)

        for entry in self._declared():
            visit(entry)
        return done

    def plugin(self, entry: Declared) -> Producer | AsyncProducer:
        """The producer, giving what it gives under the names by which others ask it for that."""
        plugin: Any = entry.instance()
        keys = self._keys(entry)
        if all(names == (given,) for given, names in keys.items()):
            assert isinstance(plugin, Producer | AsyncProducer)
            return plugin
        return (
            AsyncTelling(producer=plugin, keys=keys)
            if isinstance(plugin, AsyncProducer)
            else Telling(producer=plugin, keys=keys)
        )

    def _keys(self, entry: Declared) -> dict[Need, tuple[Need, ...]]:
        """The names under which what it gives is asked for, or may be."""
        wanted = {need for other in _used(self._declarations) for need in other.instance().wants()}
        return {
            given: tuple(
                key
                for key in (given, given.told_by(entry.name))
                if self._givers.get(key) is entry and (key is given or key in wanted)
            )
            for given in _gives(entry)
        }

    def _declared(self) -> list[Declared]:
        return self._declarations.of(Producer, AsyncProducer)

    def _settle(self) -> None:
        """Who gives what, of those declared."""
        named = _named(self._declarations)
        several: dict[Need, list[Declared]] = {}
        for entry in self._declared():
            for given in _gives(entry):
                self._givers[given.told_by(entry.name)] = entry
                several.setdefault(given, []).append(entry)
        for given, entries in several.items():
            default = DEFAULT_PRODUCERS.get(given)
            unnamed = [entry for entry in entries if entry.name not in named]
            main = next((entry for entry in entries if entry.name == default), None)
            if main is None and len(unnamed) == 1:
                main = unnamed[0]
            if main is not None:
                self._givers[given] = main
            elif default is None:
                self._refuse(given, entries)

    def _refuse(self, given: Need, entries: list[Declared]) -> None:
        self._givers[given] = entries[0]
        for entry in entries[1:]:
            message = f"gives {given.name!r}, which {entries[0].name!r} gives already: declare one of them"
            self._declarations.problem(entry.path, message)

    def _add(self) -> None:
        """Adds what is missing for what the used plugins need."""
        waiting = _used(self._declarations)
        while waiting:
            consumer = waiting.pop(0)
            for need in consumer.instance().wants():
                if need in FREE or need in self._givers:
                    continue
                type = DEFAULT_PRODUCERS.get(need.of)
                if type is None or need.producer not in ("", type):
                    self._missing(consumer, need)
                    continue
                added = self._declarations.create(type, f"for {consumer.name}")
                added.used = True
                if added.plugin is None or need in self._givers:
                    continue
                waiting.append(added)
                self._takes_on(added, need.of)
        for entry in self._declared():
            for given in _gives(entry):
                self._givers.setdefault(given, entry)

    def _warn(self) -> None:
        for entry in self._declared():
            if _gives(entry) and not any(self._keys(entry).values()):
                message = f"nobody reads what {entry.name!r} gives: plugins that are to must name it"
                self._declarations.warn(entry.path, message)

    def _takes_on(self, added: Declared, need: Need) -> None:
        for given in (*added.instance().gives, need):
            self._givers.setdefault(given, added)
            self._givers.setdefault(given.told_by(added.name), added)

    def _missing(self, consumer: Declared, need: Need) -> None:
        if not need.producer:
            self._declarations.problem(consumer.path, f"needs {need.name!r}, which no declared plugin gives")
            return
        named = self._declarations.get(need.producer)
        if named is not None and named.plugin is not None:  # else that is the problem, and known
            message = f"needs {need.of.name!r} of {need.producer!r}, which does not give it"
            self._declarations.problem(consumer.path, message)


class _Renamed(Plugin):
    """Goes by the producer's type in metrics; neighbours that need what it gives wait for it."""

    producer: Any
    keys: Mapping[Need, tuple[Need, ...]]

    def __post_init__(self) -> None:
        telling: Any = self
        telling.type = self.producer.type
        telling.gives = tuple(key for names in self.keys.values() for key in names)

    def wants(self) -> tuple[Need, ...]:
        wanted: tuple[Need, ...] = self.producer.wants()
        return wanted


class Telling(_Renamed, Producer):
    """A producer whose columns or facts go by another name, or by more than one."""

    def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        return _told(self.producer.produce(request, endpoints), self.keys)


class AsyncTelling(_Renamed, AsyncProducer):
    """The same of a producer that waits."""

    async def produce(self, request: Request, endpoints: Endpoints) -> Produced:
        return _told(await self.producer.produce(request, endpoints), self.keys)


def _told(produced: Produced, keys: Mapping[Need, tuple[Need, ...]]) -> Produced:
    return {key: value for given, value in produced.items() for key in keys.get(given, (given,))}


def _gives(entry: Declared) -> tuple[Need, ...]:
    return entry.kind.gives if entry.kind is not None else ()


def _used(declarations: Declarations) -> list[Declared]:
    return [entry for entry in declarations.all() if entry.used and entry.plugin is not None]


def _names_of(entry: Declared) -> list[tuple[str, str]]:
    """(parameter, producer) for each producer that the plugin names."""
    fields = msgspec.structs.fields(entry.instance())
    named = [(field.encode_name, getattr(entry.plugin, field.name)) for field in fields]
    return [(parameter, name) for parameter, name in named if parameter.endswith("ProducerName") and name]


def _named(declarations: Declarations) -> set[str]:
    return {name for entry in _used(declarations) for _, name in _names_of(entry)}


def _check_names(declarations: Declarations, producers: list[Declared]) -> None:
    """Parameters called `…ProducerName` name a producer of the plan."""
    names = {entry.name for entry in producers} | set(DEFAULT_PRODUCERS.values())
    unknown = {entry.name for entry in declarations.all() if entry.kind is None}
    for entry in _used(declarations):
        for parameter, name in _names_of(entry):
            if name not in names | unknown:
                path = f"{entry.path}.parameters.{parameter}"
                known = ", ".join(sorted(names))
                declarations.problem(path, f"no producer named {name!r}; there are: {known}")
