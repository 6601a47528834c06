"""Which producers run, in which order, and which of several is meant by a plugin that needs what they give.

A plugin with a parameter `…ProducerName` means the producer of that name, and reads what that one tells
(`Column.told_by`). A plugin that names none means the producer called as its type is, which is made if nobody declared
it, as in llm-d; a single producer that nobody names is meant as well, however it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from epp.api import (
    INFLIGHT_TOKENS,
    LEDGER_COLUMNS,
    PREFIX_MATCH_BLOCKS,
    PREFIX_MATCH_INFO,
    PROMPT,
    SCRAPED_COLUMNS,
    UNCACHED_TOKENS,
    AsyncProducer,
    Column,
    DataKey,
    Endpoints,
    Plugin,
    ProducedData,
    Producer,
    Request,
)
from epp.config.plugin_set import PluginEntry, PluginSet

DEFAULT_PRODUCERS: Final[dict[DataKey, str]] = {
    PREFIX_MATCH_BLOCKS: "approx-prefix-cache-producer",
    PREFIX_MATCH_INFO: "approx-prefix-cache-producer",
    PROMPT: "token-producer",
    UNCACHED_TOKENS: "inflight-load-producer",
    INFLIGHT_TOKENS: "inflight-load-producer",
}
BUILT_IN_COLUMNS: Final = frozenset({*SCRAPED_COLUMNS, *LEDGER_COLUMNS} - set(DEFAULT_PRODUCERS))
"""Columns that are there without a producer: scraped, or counted in the ledger."""

Providers = dict[DataKey, PluginEntry]


class DataGraph:
    """The producers of one configuration, those added by default too; problems go to the declarations."""

    def __init__(self, declarations: PluginSet, extracted: Collection[Column] = ()) -> None:
        self._plugin_set = declarations
        self._available = BUILT_IN_COLUMNS | set(extracted)
        for entry in self._producer_entries():
            entry.used = True
        _check_producer_names(declarations, self._producer_entries())
        self._providers: Providers = {}
        self._assign_providers()
        self._add_default_producers()
        self._warn_about_unread()

    def in_dependency_order(self) -> list[PluginEntry]:
        """Each after those it needs. Depth first from the file's order: it stays the same as long as the file does."""
        done: list[PluginEntry] = []
        open_: list[PluginEntry] = []

        def visit(entry: PluginEntry) -> None:
            if entry in done:
                return
            if entry in open_:
                circle = [*open_[open_.index(entry) :], entry]
                names = " -> ".join(item.name for item in circle)
                self._plugin_set.add_problem(entry.path, f"producers need each other in a circle: {names}")
                return
            open_.append(entry)
            plugin: Plugin | None = entry.plugin
            for need in plugin.consumes if plugin is not None else ():
                giver = self._providers.get(need)
                if giver is not None and giver is not entry:
                    visit(giver)
            open_.pop()
            done.append(entry)

        for entry in self._producer_entries():
            visit(entry)
        return done

    def build_producer(self, entry: PluginEntry) -> Producer | AsyncProducer:
        """The producer, giving what it gives under the names by which others ask it for that."""
        plugin: Any = entry.require_plugin()
        keys = self._published_keys(entry)
        if all(names == (given,) for given, names in keys.items()):
            assert isinstance(plugin, Producer | AsyncProducer)
            return plugin
        return (
            AsyncRenamedProducer(producer=plugin, keys=keys)
            if isinstance(plugin, AsyncProducer)
            else RenamedProducer(producer=plugin, keys=keys)
        )

    def _published_keys(self, entry: PluginEntry) -> dict[DataKey, tuple[DataKey, ...]]:
        """The names under which what it gives is asked for, or may be."""
        wanted = {need for other in _used_entries(self._plugin_set) for need in other.require_plugin().consumes}
        return {
            given: tuple(
                key
                for key in (given, given.from_producer(entry.name))
                if self._providers.get(key) is entry and (key is given or key in wanted)
            )
            for given in _outputs_of(entry)
        }

    def _producer_entries(self) -> list[PluginEntry]:
        return self._plugin_set.entries_of(Producer, AsyncProducer)

    def _assign_providers(self) -> None:
        """Who gives what, of those declared."""
        named = _referenced_producers(self._plugin_set)
        several: dict[DataKey, list[PluginEntry]] = {}
        for entry in self._producer_entries():
            for given in _outputs_of(entry):
                self._providers[given.from_producer(entry.name)] = entry
                several.setdefault(given, []).append(entry)
        for given, entries in several.items():
            default = DEFAULT_PRODUCERS.get(given)
            unnamed = [entry for entry in entries if entry.name not in named]
            main = next((entry for entry in entries if entry.name == default), None)
            if main is None and len(unnamed) == 1:
                main = unnamed[0]
            if main is not None:
                self._providers[given] = main
            elif default is None:
                self._report_duplicate_producers(given, entries)

    def _report_duplicate_producers(self, given: DataKey, entries: list[PluginEntry]) -> None:
        self._providers[given] = entries[0]
        for entry in entries[1:]:
            message = f"gives {given.name!r}, which {entries[0].name!r} gives already: declare one of them"
            self._plugin_set.add_problem(entry.path, message)

    def _add_default_producers(self) -> None:
        """Adds what is missing for what the used plugins need."""
        waiting = _used_entries(self._plugin_set)
        while waiting:
            consumer = waiting.pop(0)
            for need in consumer.require_plugin().consumes:
                if need in self._available or need in self._providers:
                    continue
                type = DEFAULT_PRODUCERS.get(need.base)
                if type is None or need.producer not in ("", type):
                    self._report_missing_producer(consumer, need)
                    continue
                added = self._plugin_set.create_default(type, f"for {consumer.name}")
                added.used = True
                if added.plugin is None or need in self._providers:
                    continue
                waiting.append(added)
                self._register_outputs(added, need.base)
        for entry in self._producer_entries():
            for given in _outputs_of(entry):
                self._providers.setdefault(given, entry)

    def _warn_about_unread(self) -> None:
        for entry in self._producer_entries():
            if _outputs_of(entry) and not any(self._published_keys(entry).values()):
                message = f"nobody reads what {entry.name!r} gives: plugins that are to must name it"
                self._plugin_set.add_warning(entry.path, message)

    def _register_outputs(self, added: PluginEntry, need: DataKey) -> None:
        for given in (*added.require_plugin().produces, need):
            self._providers.setdefault(given, added)
            self._providers.setdefault(given.from_producer(added.name), added)

    def _report_missing_producer(self, consumer: PluginEntry, need: DataKey) -> None:
        if not need.producer:
            self._plugin_set.add_problem(consumer.path, f"needs {need.name!r}, which no declared plugin gives")
            return
        named = self._plugin_set.find(need.producer)
        if named is not None and named.plugin is not None:  # else that is the problem, and known
            message = f"needs {need.base.name!r} of {need.producer!r}, which does not give it"
            self._plugin_set.add_problem(consumer.path, message)


class _RenamedOutputs(Plugin):
    """Goes by the producer's type in metrics; neighbours that need what it gives wait for it."""

    producer: Any
    keys: Mapping[DataKey, tuple[DataKey, ...]]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "type", self.producer.type)
        self.consumes = self.producer.consumes
        self.produces = tuple(key for names in self.keys.values() for key in names)


class RenamedProducer(_RenamedOutputs, Producer):
    """A producer whose columns or facts go by another name, or by more than one."""

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return _rename_keys(self.producer.produce(request, endpoints), self.keys)


class AsyncRenamedProducer(_RenamedOutputs, AsyncProducer):
    """The same of a producer that waits."""

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return _rename_keys(await self.producer.produce(request, endpoints), self.keys)


def _rename_keys(produced: ProducedData, keys: Mapping[DataKey, tuple[DataKey, ...]]) -> ProducedData:
    return {key: value for given, value in produced.items() for key in keys.get(given, (given,))}


def _outputs_of(entry: PluginEntry) -> tuple[DataKey, ...]:
    source = entry.plugin or entry.plugin_class
    return source.produces if source is not None else ()


def _used_entries(declarations: PluginSet) -> list[PluginEntry]:
    return [entry for entry in declarations.entries() if entry.used and entry.plugin is not None]


def _producer_name_parameters(entry: PluginEntry) -> list[tuple[str, str]]:
    """(parameter, producer) for each producer that the plugin names."""
    fields = msgspec.structs.fields(entry.require_plugin())
    named = [(field.encode_name, getattr(entry.plugin, field.name)) for field in fields]
    return [(parameter, name) for parameter, name in named if parameter.endswith("ProducerName") and name]


def _referenced_producers(declarations: PluginSet) -> set[str]:
    return {name for entry in _used_entries(declarations) for _, name in _producer_name_parameters(entry)}


def _check_producer_names(declarations: PluginSet, producers: list[PluginEntry]) -> None:
    """Parameters called `…ProducerName` name a producer of the plan."""
    names = {entry.name for entry in producers} | set(DEFAULT_PRODUCERS.values())
    unknown = {entry.name for entry in declarations.entries() if entry.plugin_class is None}
    for entry in _used_entries(declarations):
        for parameter, name in _producer_name_parameters(entry):
            if name not in names | unknown:
                path = f"{entry.path}.parameters.{parameter}"
                known = ", ".join(sorted(names))
                declarations.add_problem(path, f"no producer named {name!r}; there are: {known}")
