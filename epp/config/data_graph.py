"""The graph of producers and consumers: which producers run, in which order, and whose outputs each plugin reads.

llm-d's counterparts are `CreateMissingDataProducers` and `ValidateAndOrderDataDependencies` (pkg/epp/datalayer). A
plugin with a parameter `…ProducerName` reads the outputs of the producer of that name (`Column.from_producer`). A
plugin that names none reads those of the default producer, the one named after its type, which is added if it is not
declared. Unlike llm-d, a single producer that no parameter names replaces the default one, whatever its own name.
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

# What llm-d's runner registers with RegisterAsDefaultProducer; its key InFlightLoad is the ledger's columns here.
DEFAULT_PRODUCERS: Final[dict[DataKey, str]] = {
    PREFIX_MATCH_BLOCKS: "approx-prefix-cache-producer",
    PREFIX_MATCH_INFO: "approx-prefix-cache-producer",
    PROMPT: "token-producer",
    UNCACHED_TOKENS: "inflight-load-producer",
    INFLIGHT_TOKENS: "inflight-load-producer",
}
BUILT_IN_COLUMNS: Final = frozenset({*SCRAPED_COLUMNS, *LEDGER_COLUMNS} - set(DEFAULT_PRODUCERS))
"""Columns that have values without a producer: scraped ones, and those of the in-flight ledger."""

Providers = dict[DataKey, PluginEntry]
"""The producer that writes each key."""


class DataGraph:
    """The producers of one configuration, default ones included; problems are reported to the plugin set."""

    def __init__(self, plugin_set: PluginSet, extracted: Collection[Column] = ()) -> None:
        self._plugin_set = plugin_set
        self._available = BUILT_IN_COLUMNS | set(extracted)
        for entry in self._producer_entries():
            entry.used = True
        _check_producer_names(plugin_set, self._producer_entries())
        self._providers: Providers = {}
        self._assign_providers()
        self._add_default_producers()
        self._warn_about_unread()

    def in_dependency_order(self) -> list[PluginEntry]:
        """The producers, each after those whose outputs it consumes; otherwise in file order (depth first)."""
        done: list[PluginEntry] = []
        in_progress: list[PluginEntry] = []

        def visit(entry: PluginEntry) -> None:
            if entry in done:
                return
            if entry in in_progress:
                cycle = [*in_progress[in_progress.index(entry) :], entry]
                names = " -> ".join(item.name for item in cycle)
                self._plugin_set.add_problem(entry.path, f"producers consume each other's outputs in a cycle: {names}")
                return
            in_progress.append(entry)
            plugin: Plugin | None = entry.plugin
            for key in plugin.consumes if plugin is not None else ():
                provider = self._providers.get(key)
                if provider is not None and provider is not entry:
                    visit(provider)
            in_progress.pop()
            done.append(entry)

        for entry in self._producer_entries():
            visit(entry)
        return done

    def build_producer(self, entry: PluginEntry) -> Producer | AsyncProducer:
        """The producer, wrapped if other plugins consume its outputs under qualified keys."""
        plugin: Any = entry.require_plugin()
        keys = self._published_keys(entry)
        if all(published == (output,) for output, published in keys.items()):
            assert isinstance(plugin, Producer | AsyncProducer)
            return plugin
        return (
            AsyncRenamedProducer(producer=plugin, keys=keys)
            if isinstance(plugin, AsyncProducer)
            else RenamedProducer(producer=plugin, keys=keys)
        )

    def _published_keys(self, entry: PluginEntry) -> dict[DataKey, tuple[DataKey, ...]]:
        """The keys under which each output is published: plain, qualified by the producer's name, or both."""
        consumed = {key for other in _used_entries(self._plugin_set) for key in other.require_plugin().consumes}
        return {
            output: tuple(
                key
                for key in (output, output.from_producer(entry.name))
                if self._providers.get(key) is entry and (key is output or key in consumed)
            )
            for output in _outputs_of(entry)
        }

    def _producer_entries(self) -> list[PluginEntry]:
        return self._plugin_set.entries_of(Producer, AsyncProducer)

    def _assign_providers(self) -> None:
        """Chooses the provider of each key among the declared producers."""
        referenced = _referenced_producers(self._plugin_set)
        producers_of: dict[DataKey, list[PluginEntry]] = {}
        for entry in self._producer_entries():
            for output in _outputs_of(entry):
                self._providers[output.from_producer(entry.name)] = entry
                producers_of.setdefault(output, []).append(entry)
        for output, entries in producers_of.items():
            # The plain key belongs to the default producer, or to the only one that no parameter refers to.
            default = DEFAULT_PRODUCERS.get(output)
            unreferenced = [entry for entry in entries if entry.name not in referenced]
            provider = next((entry for entry in entries if entry.name == default), None)
            if provider is None and len(unreferenced) == 1:
                provider = unreferenced[0]
            if provider is not None:
                self._providers[output] = provider
            elif default is None:
                self._report_duplicate_producers(output, entries)

    def _report_duplicate_producers(self, output: DataKey, entries: list[PluginEntry]) -> None:
        self._providers[output] = entries[0]
        for entry in entries[1:]:
            message = f"produces {output.name!r}, which {entries[0].name!r} produces too: declare only one of them"
            self._plugin_set.add_problem(entry.path, message)

    def _add_default_producers(self) -> None:
        """Adds the default producers of consumed keys that have no provider, and of the keys those consume in turn."""
        pending = _used_entries(self._plugin_set)
        while pending:
            consumer = pending.pop(0)
            for key in consumer.require_plugin().consumes:
                if key in self._available or key in self._providers:
                    continue
                default = DEFAULT_PRODUCERS.get(key.base)
                # A key of another producer than the default one can only come from a declared producer of that name.
                if default is None or key.producer not in ("", default):
                    self._report_missing_producer(consumer, key)
                    continue
                added = self._plugin_set.create_default(default, f"for {consumer.name}")
                added.used = True
                if added.plugin is None or key in self._providers:
                    continue
                pending.append(added)
                self._register_outputs(added, key.base)
        # Outputs that still have no provider, such as those of producers that only qualified keys refer to.
        for entry in self._producer_entries():
            for output in _outputs_of(entry):
                self._providers.setdefault(output, entry)

    def _warn_about_unread(self) -> None:
        for entry in self._producer_entries():
            if _outputs_of(entry) and not any(self._published_keys(entry).values()):
                message = f"no plugin reads the outputs of {entry.name!r}: name it in a `…ProducerName` parameter"
                self._plugin_set.add_warning(entry.path, message)

    def _register_outputs(self, added: PluginEntry, key: DataKey) -> None:
        for output in (*added.require_plugin().produces, key):
            self._providers.setdefault(output, added)
            self._providers.setdefault(output.from_producer(added.name), added)

    def _report_missing_producer(self, consumer: PluginEntry, key: DataKey) -> None:
        if not key.producer:
            message = f"consumes {key.name!r}, which no declared plugin produces"
            if isinstance(key, Column):
                message += " and no extractor in dataLayer.sources writes"
            for entry in self._producer_entries():
                if any(output.name == key.name for output in _outputs_of(entry)):
                    message += f"; {entry.name!r} produces another key of that name: both must import the same object"
            self._plugin_set.add_problem(consumer.path, message)
            return
        producer = self._plugin_set.find(key.producer)
        if producer is not None and producer.plugin is not None:  # otherwise its own problem is reported
            message = f"consumes {key.base.name!r} of {key.producer!r}, which does not produce it"
            self._plugin_set.add_problem(consumer.path, message)


class _RenamedOutputs(Plugin):
    """Publishes a producer's outputs under other keys. Its type, for metrics, is that of the wrapped producer."""

    producer: Any
    keys: Mapping[DataKey, tuple[DataKey, ...]]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "type", self.producer.type)
        self.consumes = self.producer.consumes
        self.produces = tuple(key for published in self.keys.values() for key in published)


class RenamedProducer(_RenamedOutputs, Producer):
    """A producer whose outputs are published under other keys, or under two."""

    def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return _rename_keys(self.producer.produce(request, endpoints), self.keys)


class AsyncRenamedProducer(_RenamedOutputs, AsyncProducer):
    """An asynchronous producer whose outputs are published under other keys, or under two."""

    async def produce(self, request: Request, endpoints: Endpoints) -> ProducedData:
        return _rename_keys(await self.producer.produce(request, endpoints), self.keys)


def _rename_keys(produced: ProducedData, keys: Mapping[DataKey, tuple[DataKey, ...]]) -> ProducedData:
    return {key: value for output, value in produced.items() for key in keys.get(output, (output,))}


def _outputs_of(entry: PluginEntry) -> tuple[DataKey, ...]:
    source = entry.plugin or entry.plugin_class
    return source.produces if source is not None else ()


def _used_entries(plugin_set: PluginSet) -> list[PluginEntry]:
    return [entry for entry in plugin_set.entries() if entry.used and entry.plugin is not None]


def _producer_name_parameters(entry: PluginEntry) -> list[tuple[str, str]]:
    """(parameter, value) of each parameter `…ProducerName` that is set."""
    fields = msgspec.structs.fields(entry.require_plugin())
    values = [(field.encode_name, getattr(entry.plugin, field.name)) for field in fields]
    return [(parameter, name) for parameter, name in values if parameter.endswith("ProducerName") and name]


def _referenced_producers(plugin_set: PluginSet) -> set[str]:
    return {name for entry in _used_entries(plugin_set) for _, name in _producer_name_parameters(entry)}


def _check_producer_names(plugin_set: PluginSet, producers: list[PluginEntry]) -> None:
    """Reports parameters `…ProducerName` that name no producer of the configuration."""
    names = {entry.name for entry in producers} | set(DEFAULT_PRODUCERS.values())
    unknown = {entry.name for entry in plugin_set.entries() if entry.plugin_class is None}
    for entry in _used_entries(plugin_set):
        for parameter, name in _producer_name_parameters(entry):
            if name not in names | unknown:
                path = f"{entry.path}.parameters.{parameter}"
                known = ", ".join(sorted(names))
                plugin_set.add_problem(path, f"unknown producer {name!r}; available: {known}")
