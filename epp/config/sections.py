"""The sections of a configuration, resolved to plugin entries; problems are reported to the plugin set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from epp.api import SCRAPED_COLUMNS, Column, DataSource, Discovery, Extractor, Filter, Parser, Picker, Scorer
from epp.config import defaults
from epp.config.plugin_kinds import SaturationDetector, kind_noun
from epp.config.plugin_set import PluginEntry, PluginSet
from epp.config.schema import DataLayerConfig, EndpointPickerConfig, FlowControlConfig, PluginRef, ProfileSpec

MAX_WEIGHT: Final = 1e6
"""Totals are float32: with larger weights the scores of all other scorers vanish in rounding, or the sum overflows."""

FEATURE_GATES: Final[Mapping[str, bool]] = {"flowControl": False, "haPopulateNonLeaderDatastore": True}
"""llm-d's feature gates and their defaults."""


class ProfileDraft(msgspec.Struct):
    """A scheduling profile as plugin entries, which may have problems."""

    name: str
    filters: list[PluginEntry] = []
    scorers: list[tuple[PluginEntry, float]] = []
    picker: PluginEntry | None = None


def parse_feature_gates(config: EndpointPickerConfig, plugin_set: PluginSet) -> dict[str, bool]:
    """The feature gates that the configuration sets, by `name` or `name=true|false`."""
    gates: dict[str, bool] = {}
    for i, gate in enumerate(config.feature_gates):
        name, equals, value = (gate or "").partition("=")
        path = f"featureGates[{i}]"
        if name not in FEATURE_GATES:
            plugin_set.add_problem(path, f"unknown feature gate {name!r}; known: {', '.join(sorted(FEATURE_GATES))}")
        elif equals and value not in {"true", "false"}:
            plugin_set.add_problem(path, f"expected {name}=true or {name}=false, got {gate!r}")
        else:
            gates[name] = value != "false"
            if name == "flowControl" and gates[name]:
                plugin_set.add_problem(path, "flow control is not supported yet")
    return gates


def parse_profiles(config: EndpointPickerConfig, plugin_set: PluginSet) -> list[ProfileDraft]:
    """The scheduling profiles; if the section is empty, one of all declared filters, scorers and pickers."""
    specs = [spec for spec in config.scheduling_profiles if spec is not None]
    if not specs:
        specs, path = defaults.default_profile_specs(plugin_set), "plugins"
        return [_parse_profile(spec, path, plugin_set) for spec in specs]
    drafts: dict[str, ProfileDraft] = {}
    for i, spec in enumerate(config.scheduling_profiles):
        if spec is None:
            continue
        path = f"schedulingProfiles[{i}]"
        draft = _parse_profile(spec, path, plugin_set)
        if not spec.name:
            plugin_set.add_required_problem(f"{path}.name")
        elif spec.name in drafts:
            plugin_set.add_problem(f"{path}.name", f"duplicate profile name {spec.name!r}")
        else:
            drafts[spec.name] = draft
    return list(drafts.values())


def _parse_profile(spec: ProfileSpec, path: str, plugin_set: PluginSet) -> ProfileDraft:
    draft = ProfileDraft(spec.name)
    has_problem = False
    for i, item in enumerate(spec.plugins):
        item_path = f"{path}.plugins[{i}]" if path != "plugins" else path
        if item is None:
            has_problem = True
            continue
        entry = plugin_set.resolve_reference(item.plugin_ref, f"{item_path}.pluginRef", what="declared plugin")
        has_problem = has_problem or entry is None or entry.plugin_class is None
        if entry is not None:
            _place_plugin(draft, entry, item.weight, item_path, plugin_set)
    if draft.picker is None and not has_problem:
        draft.picker = defaults.choose_default_picker(plugin_set, path)
    if draft.picker is not None:
        draft.picker.used = True
    return draft


def _place_plugin(
    draft: ProfileDraft, entry: PluginEntry, weight: float | None, path: str, plugin_set: PluginSet
) -> None:
    placed = False
    if entry.is_a(Filter):
        draft.filters.append(entry)
        placed = True
    if entry.is_a(Scorer):
        draft.scorers.append((entry, _check_weight(weight, path, plugin_set)))
        placed = True
    elif weight is not None and entry.plugin_class is not None:
        plugin_set.add_warning(
            f"{path}.weight",
            f"ignored: only scorers have a weight, and {entry.name!r} is a {kind_noun(entry.plugin_class)}",
        )
    if entry.is_a(Picker):
        if draft.picker is not None:
            message = f"second picker {entry.name!r}: a profile has one, and {draft.picker.name!r} comes before it"
            plugin_set.add_problem(path, message)
        draft.picker = entry
        placed = True
    if placed:
        entry.used = True
    elif entry.plugin_class is not None:
        noun = kind_noun(entry.plugin_class)
        plugin_set.add_warning(
            path, f"ignored: a profile lists filters, scorers and pickers, and {entry.name!r} is a {noun}"
        )


def _check_weight(weight: float | None, path: str, plugin_set: PluginSet) -> float:
    if weight is None:
        return 1.0  # llm-d's DefaultScorerWeight
    if not 0 <= weight <= MAX_WEIGHT:  # false for NaN too
        plugin_set.add_problem(f"{path}.weight", f"expected a number from 0 to {MAX_WEIGHT:g}, got {weight:g}")
    return weight


def parse_parser_refs(config: EndpointPickerConfig, plugin_set: PluginSet) -> list[PluginEntry]:
    """The parsers in order; llm-d's default parsers if the section names none (ensureParsers)."""
    refs: Sequence[PluginRef | None] = config.request_handler.parsers if config.request_handler else ()
    path = "requestHandler.parsers[{}].pluginRef"
    if config.parser is not None:
        plugin_set.add_warning("parser", "deprecated: use requestHandler.parsers")
        if not refs:
            refs, path = [config.parser], "parser.pluginRef"
    parsers: list[PluginEntry] = []
    for i, ref in enumerate(refs):
        if ref is None:
            continue
        item_path = path.format(i)
        entry = plugin_set.resolve_reference(ref.plugin_ref, item_path, Parser, what="parser", create=True)
        if entry is not None and any(other.plugin_type == entry.plugin_type for other in parsers):
            plugin_set.add_warning(item_path, f"ignored: a parser of type {entry.plugin_type!r} is listed before it")
        elif entry is not None:
            parsers.append(entry)
    if not refs:
        available = [type for type in defaults.DEFAULT_PARSERS if type in plugin_set.registry]
        parsers = [plugin_set.create_default(type, "a default parser") for type in available]
    for entry in parsers:
        entry.used = True
    return parsers


def parse_saturation_detector(config: EndpointPickerConfig, plugin_set: PluginSet) -> PluginEntry | None:
    """The saturation detector, by default the one that llm-d adds (ensureSaturationDetector).

    It is used without flow control too, for requests of negative priority, as in llm-d.
    """
    flow = config.flow_control
    ref, path = (flow.saturation_detector if flow else None), "flowControl.saturationDetector.pluginRef"
    if config.saturation_detector is not None:
        plugin_set.add_warning("saturationDetector", "deprecated: use flowControl.saturationDetector")
        if ref is None:
            ref, path = config.saturation_detector, "saturationDetector.pluginRef"
    if ref is not None and ref.plugin_ref:
        is_default = ref.plugin_ref == defaults.DEFAULT_SATURATION_DETECTOR
        entry = plugin_set.resolve_reference(
            ref.plugin_ref, path, SaturationDetector, what="saturation detector", create=is_default
        )
    elif defaults.DEFAULT_SATURATION_DETECTOR in plugin_set.registry:
        entry = plugin_set.create_default(defaults.DEFAULT_SATURATION_DETECTOR, "the default saturation detector")
    else:
        return None
    if entry is not None:
        entry.used = True
    return entry


def check_flow_control(flow: FlowControlConfig | None, plugin_set: PluginSet) -> None:
    """Checks the section. Without the feature gate it has no effect, as in llm-d; the saturation detector excepted."""
    if flow is None:
        return
    if msgspec.structs.replace(flow, saturation_detector=None) != FlowControlConfig():
        plugin_set.add_warning("flowControl", "has no effect while the feature gate flowControl is off")
    priorities: set[int] = set()
    for i, band in enumerate(flow.priority_bands):
        if band is None or band.priority is None:
            continue
        if band.priority in priorities:
            plugin_set.add_problem(f"flowControl.priorityBands[{i}].priority", f"duplicate priority {band.priority}")
        priorities.add(band.priority)


DataSourceEntries = list[tuple[PluginEntry, list[PluginEntry]]]
"""Data sources, each with the extractors bound to it."""


def parse_data_sources(layer: DataLayerConfig, plugin_set: PluginSet) -> DataSourceEntries:
    """Data sources with their extractors; by default also one that scrapes the model servers' metrics."""
    sources: DataSourceEntries = []
    for i, spec in enumerate(layer.sources):
        if spec is None:
            continue
        path = f"dataLayer.sources[{i}]"
        source = plugin_set.resolve_reference(spec.plugin_ref, f"{path}.pluginRef", DataSource, what="data source")
        extractors: list[PluginEntry] = []
        for j, ref in enumerate(spec.extractors):
            if ref is None:
                continue
            item_path = f"{path}.extractors[{j}].pluginRef"
            extractor = plugin_set.resolve_reference(ref.plugin_ref, item_path, Extractor, what="extractor")
            if extractor is not None:
                extractors.append(extractor)
                if source is not None:
                    _check_payload_type(source, extractor, item_path, plugin_set)
        if source is not None:
            sources.append((source, extractors))
    _check_column_writers(sources, plugin_set)
    _add_default_data_source(sources, layer, plugin_set)
    for source, extractors in sources:
        for entry in (source, *extractors):
            entry.used = True
    return sources


def _add_default_data_source(sources: DataSourceEntries, layer: DataLayerConfig, plugin_set: PluginSet) -> None:
    """Adds metrics-data-source unless `injectDefaults` is false or a source has its name, as llm-d's ensureDataLayer.

    Unlike there, it is not added either, with a warning, if a configured extractor writes columns of its extractor.
    """
    named = {spec.plugin_ref for spec in layer.sources if spec is not None}
    if not layer.inject_defaults or defaults.DEFAULT_DATA_SOURCE in named:
        return
    if defaults.DEFAULT_DATA_SOURCE not in plugin_set.registry:
        return
    extracted = extracted_columns(sources)
    written = [column.name for column in SCRAPED_COLUMNS if column in extracted]
    if written:
        message = f"{defaults.DEFAULT_DATA_SOURCE} is not added, because a configured extractor writes"
        plugin_set.add_warning("dataLayer.injectDefaults", f"{message} {', '.join(written)}")
        return
    source = plugin_set.create_default(defaults.DEFAULT_DATA_SOURCE, "the default data source")
    extractor = plugin_set.create_default(defaults.DEFAULT_EXTRACTOR, "the default extractor")
    sources.append((source, [extractor]))


def extracted_columns(sources: DataSourceEntries) -> set[Column]:
    """The columns that the extractors of these data sources write."""
    return {
        column
        for _, extractors in sources
        for entry in extractors
        if isinstance(entry.plugin, Extractor)
        for column in entry.plugin.columns
    }


def _check_payload_type(source: PluginEntry, extractor: PluginEntry, path: str, plugin_set: PluginSet) -> None:
    if not isinstance(source.plugin, DataSource) or not isinstance(extractor.plugin, Extractor):
        return  # a problem already
    delivered, read = source.plugin.payload_type, extractor.plugin.payload_type
    if not issubclass(delivered, read):
        plugin_set.add_problem(
            path,
            f"{extractor.name!r} reads {read.__name__}, but the data source {source.name!r} delivers"
            f" {delivered.__name__}",
        )


def _check_column_writers(sources: DataSourceEntries, plugin_set: PluginSet) -> None:
    """A column is written by the first extractor that lists it: warns of the others."""
    writers: dict[Column, str] = {}
    for i, (_, extractors) in enumerate(sources):
        for entry in extractors:
            columns = entry.plugin.columns if isinstance(entry.plugin, Extractor) else ()
            if shared := [column for column in columns if column in writers]:
                names = ", ".join(column.name for column in shared)
                plugin_set.add_warning(
                    f"dataLayer.sources[{i}]",
                    f"the values of {entry.name!r} for {names} are ignored: {writers[shared[0]]!r} writes them",
                )
            for column in columns:
                writers.setdefault(column, entry.name)


def parse_discovery(layer: DataLayerConfig, plugin_set: PluginSet) -> PluginEntry | None:
    """The discovery plugin, if one is configured."""
    if layer.peer_discovery is not None:
        plugin_set.add_warning("dataLayer.peerDiscovery", "has no effect (as in llm-d)")
    if layer.cross_replica_syncer_plugin_ref:
        path = "dataLayer.crossReplicaSyncerPluginRef"
        plugin_set.add_problem(path, "synchronizing replicas is not supported yet")
    elif layer.cross_replica_sync_interval is not None:
        plugin_set.add_warning(
            "dataLayer.crossReplicaSyncInterval", "has no effect without crossReplicaSyncerPluginRef"
        )
    if layer.discovery is None:
        return None
    path = "dataLayer.discovery.pluginRef"
    entry = plugin_set.resolve_reference(layer.discovery.plugin_ref, path, Discovery, what="discovery plugin")
    if entry is not None:
        entry.used = True
    return entry
