"""The sections of a configuration, each read into declared plugins; mistakes go to the declarations' problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from epp.api import SCRAPED_COLUMNS, Column, DataSource, Discovery, Extractor, Filter, Parser, Picker, Scorer
from epp.config import defaults
from epp.config.plugin_kinds import SaturationDetector
from epp.config.plugin_set import PluginEntry, PluginSet
from epp.config.schema import DataLayerConfig, EndpointPickerConfig, FlowControlConfig, PluginRef, ProfileSpec

MAX_WEIGHT: Final = 1e6
"""Totals are float32: far larger weights would drown the scores of every other scorer, or overflow."""

FEATURE_GATES: Final[Mapping[str, bool]] = {"flowControl": False, "haPopulateNonLeaderDatastore": True}


class ProfileDraft(msgspec.Struct):
    """A scheduling profile before its plugins are known to be sound."""

    name: str
    filters: list[PluginEntry] = []
    scorers: list[tuple[PluginEntry, float]] = []
    picker: PluginEntry | None = None


def parse_feature_gates(config: EndpointPickerConfig, declarations: PluginSet) -> dict[str, bool]:
    """`name` or `name=true|false`; only those given."""
    found: dict[str, bool] = {}
    for i, gate in enumerate(config.feature_gates):
        name, equals, value = (gate or "").partition("=")
        path = f"featureGates[{i}]"
        if name not in FEATURE_GATES:
            declarations.add_problem(path, f"unknown feature gate {name!r}; known: {', '.join(sorted(FEATURE_GATES))}")
        elif equals and value not in {"true", "false"}:
            declarations.add_problem(path, f"expected {name}=true or {name}=false, got {gate!r}")
        else:
            found[name] = value != "false"
            if name == "flowControl" and found[name]:
                declarations.add_problem(path, "flow control is not supported yet")
    return found


def parse_profiles(config: EndpointPickerConfig, declarations: PluginSet) -> list[ProfileDraft]:
    """The scheduling profiles; one of everything declared if the section is empty."""
    specs = [spec for spec in config.scheduling_profiles if spec is not None]
    if not specs:
        specs, path = defaults.default_profile_specs(declarations), "plugins"
        return [_parse_profile(spec, path, declarations) for spec in specs]
    found: dict[str, ProfileDraft] = {}
    for i, spec in enumerate(config.scheduling_profiles):
        if spec is None:
            continue
        path = f"schedulingProfiles[{i}]"
        draft = _parse_profile(spec, path, declarations)
        if not spec.name:
            declarations.add_required_problem(f"{path}.name")
        elif spec.name in found:
            declarations.add_problem(f"{path}.name", f"there is a profile named {spec.name!r} already")
        else:
            found[spec.name] = draft
    return list(found.values())


def _parse_profile(spec: ProfileSpec, path: str, declarations: PluginSet) -> ProfileDraft:
    draft = ProfileDraft(spec.name)
    broken = False
    for i, item in enumerate(spec.plugins):
        where = f"{path}.plugins[{i}]" if path != "plugins" else path
        if item is None:
            broken = True
            continue
        entry = declarations.resolve_reference(item.plugin_ref, f"{where}.pluginRef", what="declared plugin")
        broken = broken or entry is None or entry.plugin_class is None
        if entry is not None:
            _place_plugin(draft, entry, item.weight, where, declarations)
    if draft.picker is None and not broken:
        draft.picker = defaults.choose_default_picker(declarations, path)
    if draft.picker is not None:
        draft.picker.used = True
    return draft


def _place_plugin(
    draft: ProfileDraft, entry: PluginEntry, weight: float | None, path: str, declarations: PluginSet
) -> None:
    placed = False
    if entry.is_a(Filter):
        draft.filters.append(entry)
        placed = True
    if entry.is_a(Scorer):
        draft.scorers.append((entry, _check_weight(weight, path, declarations)))
        placed = True
    elif weight is not None and entry.plugin_class is not None:
        declarations.add_warning(f"{path}.weight", f"has no effect: {entry.name!r} is no scorer")
    if entry.is_a(Picker):
        if draft.picker is not None:
            message = f"a second picker, {entry.name!r}; {draft.picker.name!r} is one already"
            declarations.add_problem(path, message)
        draft.picker = entry
        placed = True
    if placed:
        entry.used = True
    elif entry.plugin_class is not None:
        declarations.add_warning(path, f"{entry.name!r} is no filter, scorer or picker: it needs no place in a profile")


def _check_weight(weight: float | None, path: str, declarations: PluginSet) -> float:
    if weight is None:
        return 1.0
    if not 0 <= weight <= MAX_WEIGHT:  # false for NaN too
        declarations.add_problem(f"{path}.weight", f"expected a number from 0 to {MAX_WEIGHT:g}, got {weight:g}")
    return weight


def parse_parser_refs(config: EndpointPickerConfig, declarations: PluginSet) -> list[PluginEntry]:
    """The parsers, in order; llm-d's default ones if none is named."""
    refs: Sequence[PluginRef | None] = config.request_handler.parsers if config.request_handler else ()
    path = "requestHandler.parsers[{}].pluginRef"
    if config.parser is not None:
        declarations.add_warning("parser", "deprecated: use requestHandler.parsers")
        if not refs:
            refs, path = [config.parser], "parser.pluginRef"
    found: list[PluginEntry] = []
    for i, ref in enumerate(refs):
        if ref is None:
            continue
        where = path.format(i)
        entry = declarations.resolve_reference(ref.plugin_ref, where, Parser, what="parser", create=True)
        if entry is not None and any(known.plugin_type == entry.plugin_type for known in found):
            declarations.add_warning(where, f"ignored: a parser of type {entry.plugin_type!r} comes before it")
        elif entry is not None:
            found.append(entry)
    if not refs:
        available = [type for type in defaults.DEFAULT_PARSERS if type in declarations.registry]
        found = [declarations.create_default(type, "a default parser") for type in available]
    for entry in found:
        entry.used = True
    return found


def parse_saturation_detector(config: EndpointPickerConfig, declarations: PluginSet) -> PluginEntry | None:
    """The detector: honoured with flow control off too, for requests of negative priority."""
    flow = config.flow_control
    ref, path = (flow.saturation_detector if flow else None), "flowControl.saturationDetector.pluginRef"
    if config.saturation_detector is not None:
        declarations.add_warning("saturationDetector", "deprecated: use flowControl.saturationDetector")
        if ref is None:
            ref, path = config.saturation_detector, "saturationDetector.pluginRef"
    if ref is not None and ref.plugin_ref:
        own = ref.plugin_ref == defaults.DEFAULT_SATURATION_DETECTOR
        entry = declarations.resolve_reference(
            ref.plugin_ref, path, SaturationDetector, what="saturation detector", create=own
        )
    elif defaults.DEFAULT_SATURATION_DETECTOR in declarations.registry:
        entry = declarations.create_default(defaults.DEFAULT_SATURATION_DETECTOR, "the default saturation detector")
    else:
        return None
    if entry is not None:
        entry.used = True
    return entry


def check_flow_control(flow: FlowControlConfig | None, declarations: PluginSet) -> None:
    """The section without the gate: checked, but without effect, as in llm-d."""
    if flow is None:
        return
    rest = msgspec.structs.replace(flow, saturation_detector=None)
    if rest != FlowControlConfig():
        declarations.add_warning("flowControl", "has no effect while the feature gate flowControl is off")
    priorities: set[int] = set()
    for i, band in enumerate(flow.priority_bands):
        if band is None or band.priority is None:
            continue
        if band.priority in priorities:
            declarations.add_problem(
                f"flowControl.priorityBands[{i}].priority", f"there is a band of priority {band.priority} already"
            )
        priorities.add(band.priority)


DataSourceEntries = list[tuple[PluginEntry, list[PluginEntry]]]
"""Data sources, each with the extractors bound to it."""


def parse_data_sources(layer: DataLayerConfig, declarations: PluginSet) -> DataSourceEntries:
    """Data sources with their extractors; by default also one that scrapes the model servers' metrics.

    As in llm-d (`ensureDataLayer`) the default is added unless `injectDefaults` is false or a source is referred to by
    the default's name; unlike there, also if a configured extractor writes columns of the default extractor.
    """
    found: DataSourceEntries = []
    for i, spec in enumerate(layer.sources):
        if spec is None:
            continue
        path = f"dataLayer.sources[{i}]"
        source = declarations.resolve_reference(spec.plugin_ref, f"{path}.pluginRef", DataSource, what="data source")
        extractors: list[PluginEntry] = []
        for j, ref in enumerate(spec.extractors):
            where = f"{path}.extractors[{j}].pluginRef"
            extractor = None
            if ref is not None:
                extractor = declarations.resolve_reference(ref.plugin_ref, where, Extractor, what="extractor")
            if extractor is not None:
                extractors.append(extractor)
                if source is not None:
                    _check_payload_type(source, extractor, where, declarations)
        if source is not None:
            found.append((source, extractors))
    _check_column_writers(found, declarations)
    named = {spec.plugin_ref for spec in layer.sources if spec is not None}
    if (
        layer.inject_defaults
        and defaults.DEFAULT_DATA_SOURCE not in named
        and defaults.DEFAULT_DATA_SOURCE in declarations.registry
    ):
        extracted = extracted_columns(found)
        written = [column.name for column in SCRAPED_COLUMNS if column in extracted]
        if written:
            declarations.add_warning(
                "dataLayer.injectDefaults",
                f"{defaults.DEFAULT_DATA_SOURCE} is not added, because a configured extractor writes"
                f" {', '.join(written)}",
            )
        else:
            source = declarations.create_default(defaults.DEFAULT_DATA_SOURCE, "the default data source")
            extractor = declarations.create_default(defaults.DEFAULT_EXTRACTOR, "the default extractor")
            found.append((source, [extractor]))
    for source, extractors in found:
        for entry in (source, *extractors):
            entry.used = True
    return found


def extracted_columns(sources: DataSourceEntries) -> set[Column]:
    """The columns that the extractors of these data sources write."""
    return {
        column
        for _, extractors in sources
        for entry in extractors
        if isinstance(entry.plugin, Extractor)
        for column in entry.plugin.columns
    }


def _check_payload_type(source: PluginEntry, extractor: PluginEntry, path: str, declarations: PluginSet) -> None:
    if not isinstance(source.plugin, DataSource) or not isinstance(extractor.plugin, Extractor):
        return  # a problem already
    delivered, read = source.plugin.payload_type, extractor.plugin.payload_type
    if not issubclass(delivered, read):
        declarations.add_problem(
            path,
            f"{extractor.name!r} reads {read.__name__}, but the data source {source.name!r} delivers"
            f" {delivered.__name__}",
        )


def _check_column_writers(sources: DataSourceEntries, declarations: PluginSet) -> None:
    """A column is written by the first extractor that lists it: warns of the others."""
    writers: dict[Column, str] = {}
    for i, (_, extractors) in enumerate(sources):
        for entry in extractors:
            columns = entry.plugin.columns if isinstance(entry.plugin, Extractor) else ()
            if shared := [column for column in columns if column in writers]:
                names = ", ".join(column.name for column in shared)
                declarations.add_warning(
                    f"dataLayer.sources[{i}]",
                    f"the values of {entry.name!r} for {names} are ignored: {writers[shared[0]]!r} writes them",
                )
            for column in columns:
                writers.setdefault(column, entry.name)


def parse_discovery(layer: DataLayerConfig, declarations: PluginSet) -> PluginEntry | None:
    """Where endpoints come from without a cluster."""
    if layer.peer_discovery is not None:
        declarations.add_warning("dataLayer.peerDiscovery", "has no effect, as in llm-d")
    if layer.cross_replica_syncer_plugin_ref:
        path = "dataLayer.crossReplicaSyncerPluginRef"
        declarations.add_problem(path, "synchronising replicas is not supported yet")
    elif layer.cross_replica_sync_interval is not None:
        declarations.add_warning(
            "dataLayer.crossReplicaSyncInterval", "has no effect without crossReplicaSyncerPluginRef"
        )
    if layer.discovery is None:
        return None
    path = "dataLayer.discovery.pluginRef"
    entry = declarations.resolve_reference(layer.discovery.plugin_ref, path, Discovery, what="discovery plugin")
    if entry is not None:
        entry.used = True
    return entry
