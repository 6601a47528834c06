"""The sections of a configuration, each read into declared plugins; mistakes go to the declarations' problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from epp.api import DataSource, Discovery, Extractor, Filter, Parser, Picker, Policy, Scorer
from epp.config import defaults
from epp.config.plugin_set import Declarations, Declared
from epp.config.schema import DataLayer, EndpointPickerConfig, FlowControl, ProfileSpec, Ref

MOST_WEIGHT: Final = 1e6
"""Totals are float32: far larger weights would drown the scores of every other scorer, or overflow."""

FEATURE_GATES: Final[Mapping[str, bool]] = {"flowControl": False, "haPopulateNonLeaderDatastore": True}


class ProfileDraft(msgspec.Struct):
    """A scheduling profile before its plugins are known to be sound."""

    name: str
    filters: list[Declared] = []
    scorers: list[tuple[Declared, float]] = []
    picker: Declared | None = None


def feature_gates(config: EndpointPickerConfig, declarations: Declarations) -> dict[str, bool]:
    """`name` or `name=true|false`; only those given."""
    found: dict[str, bool] = {}
    for i, gate in enumerate(config.feature_gates):
        name, equals, value = (gate or "").partition("=")
        path = f"featureGates[{i}]"
        if name not in FEATURE_GATES:
            declarations.problem(path, f"unknown feature gate {name!r}; known: {', '.join(sorted(FEATURE_GATES))}")
        elif equals and value not in {"true", "false"}:
            declarations.problem(path, f"expected {name}=true or {name}=false, got {gate!r}")
        else:
            found[name] = value != "false"
            if name == "flowControl" and found[name]:
                declarations.problem(path, "flow control is not supported yet")
    return found


def profiles(config: EndpointPickerConfig, declarations: Declarations) -> list[ProfileDraft]:
    """The scheduling profiles; one of everything declared if the section is empty."""
    specs = [spec for spec in config.scheduling_profiles if spec is not None]
    if not specs:
        specs, path = defaults.default_profiles(declarations), "plugins"
        return [_profile(spec, path, declarations) for spec in specs]
    found: dict[str, ProfileDraft] = {}
    for i, spec in enumerate(config.scheduling_profiles):
        if spec is None:
            continue
        path = f"schedulingProfiles[{i}]"
        draft = _profile(spec, path, declarations)
        if not spec.name:
            declarations.required(f"{path}.name")
        elif spec.name in found:
            declarations.problem(f"{path}.name", f"there is a profile named {spec.name!r} already")
        else:
            found[spec.name] = draft
    return list(found.values())


def _profile(spec: ProfileSpec, path: str, declarations: Declarations) -> ProfileDraft:
    draft = ProfileDraft(spec.name)
    broken = False
    for i, item in enumerate(spec.plugins):
        where = f"{path}.plugins[{i}]" if path != "plugins" else path
        if item is None:
            broken = True
            continue
        entry = declarations.resolve(item.plugin_ref, f"{where}.pluginRef", what="declared plugin")
        broken = broken or entry is None or entry.kind is None
        if entry is not None:
            _place(draft, entry, item.weight, where, declarations)
    if draft.picker is None and not broken:
        draft.picker = defaults.default_picker(declarations, path)
    if draft.picker is not None:
        draft.picker.used = True
    return draft


def _place(draft: ProfileDraft, entry: Declared, weight: float | None, path: str, declarations: Declarations) -> None:
    placed = False
    if entry.is_a(Filter):
        draft.filters.append(entry)
        placed = True
    if entry.is_a(Scorer):
        draft.scorers.append((entry, _weight(weight, path, declarations)))
        placed = True
    elif weight is not None and entry.kind is not None:
        declarations.warn(f"{path}.weight", f"has no effect: {entry.name!r} is no scorer")
    if entry.is_a(Picker):
        if draft.picker is not None:
            message = f"a second picker, {entry.name!r}; {draft.picker.name!r} is one already"
            declarations.problem(path, message)
        draft.picker = entry
        placed = True
    if placed:
        entry.used = True
    elif entry.kind is not None:
        declarations.warn(path, f"{entry.name!r} is no filter, scorer or picker: it needs no place in a profile")


def _weight(weight: float | None, path: str, declarations: Declarations) -> float:
    if weight is None:
        return 1.0
    if not 0 <= weight <= MOST_WEIGHT:  # false for NaN too
        declarations.problem(f"{path}.weight", f"expected a number from 0 to {MOST_WEIGHT:g}, got {weight:g}")
    return weight


def parsers(config: EndpointPickerConfig, declarations: Declarations) -> list[Declared]:
    """The parsers, in order; llm-d's default ones if none is named."""
    refs: Sequence[Ref | None] = config.request_handler.parsers if config.request_handler else ()
    path = "requestHandler.parsers[{}].pluginRef"
    if config.parser is not None:
        declarations.warn("parser", "deprecated: use requestHandler.parsers")
        if not refs:
            refs, path = [config.parser], "parser.pluginRef"
    found: list[Declared] = []
    for i, ref in enumerate(refs):
        if ref is None:
            continue
        where = path.format(i)
        entry = declarations.resolve(ref.plugin_ref, where, Parser, what="parser", create=True)
        if entry is not None and any(known.plugin_type == entry.plugin_type for known in found):
            declarations.warn(where, f"ignored: a parser of type {entry.plugin_type!r} comes before it")
        elif entry is not None:
            found.append(entry)
    if not refs:
        available = [type for type in defaults.DEFAULT_PARSERS if type in declarations.registry]
        found = [declarations.create(type, "a default parser") for type in available]
    for entry in found:
        entry.used = True
    return found


def saturation_detector(config: EndpointPickerConfig, declarations: Declarations) -> Declared | None:
    """The detector: honoured with flow control off too, for requests of negative priority."""
    flow = config.flow_control
    ref, path = (flow.saturation_detector if flow else None), "flowControl.saturationDetector.pluginRef"
    if config.saturation_detector is not None:
        declarations.warn("saturationDetector", "deprecated: use flowControl.saturationDetector")
        if ref is None:
            ref, path = config.saturation_detector, "saturationDetector.pluginRef"
    if ref is not None and ref.plugin_ref:
        own = ref.plugin_ref == defaults.DEFAULT_DETECTOR
        entry = declarations.resolve(ref.plugin_ref, path, Policy, what="saturation detector", create=own)
    elif defaults.DEFAULT_DETECTOR in declarations.registry:
        entry = declarations.create(defaults.DEFAULT_DETECTOR, "the default saturation detector")
    else:
        return None
    if entry is not None:
        entry.used = True
    return entry


def flow_control(flow: FlowControl | None, declarations: Declarations) -> None:
    """The section without the gate: checked, but without effect, as in llm-d."""
    if flow is None:
        return
    rest = msgspec.structs.replace(flow, saturation_detector=None)
    if rest != FlowControl():
        declarations.warn("flowControl", "has no effect while the feature gate flowControl is off")
    priorities: set[int] = set()
    for i, band in enumerate(flow.priority_bands):
        if band is None or band.priority is None:
            continue
        if band.priority in priorities:
            declarations.problem(
                f"flowControl.priorityBands[{i}].priority", f"there is a band of priority {band.priority} already"
            )
        priorities.add(band.priority)


def data_sources(layer: DataLayer, declarations: Declarations) -> list[tuple[Declared, list[Declared]]]:
    """Sources with their extractors; the metrics of the model servers unless told otherwise."""
    found: list[tuple[Declared, list[Declared]]] = []
    for i, spec in enumerate(layer.sources):
        if spec is None:
            continue
        path = f"dataLayer.sources[{i}]"
        source = declarations.resolve(spec.plugin_ref, f"{path}.pluginRef", DataSource, what="data source")
        extractors: list[Declared] = []
        for j, ref in enumerate(spec.extractors):
            where = f"{path}.extractors[{j}].pluginRef"
            extractor = None
            if ref is not None:
                extractor = declarations.resolve(ref.plugin_ref, where, Extractor, what="extractor")
            if extractor is not None:
                extractors.append(extractor)
        if source is not None:
            found.append((source, extractors))
    named = {spec.plugin_ref for spec in layer.sources if spec is not None}
    if (
        layer.inject_defaults
        and defaults.DEFAULT_SOURCE not in named
        and defaults.DEFAULT_SOURCE in declarations.registry
    ):
        source = declarations.create(defaults.DEFAULT_SOURCE, "the default data source")
        extractor = declarations.create(defaults.DEFAULT_EXTRACTOR, "the default extractor")
        found.append((source, [extractor]))
    for source, extractors in found:
        for entry in (source, *extractors):
            entry.used = True
    return found


def discovery(layer: DataLayer, declarations: Declarations) -> Declared | None:
    """Where endpoints come from without a cluster."""
    if layer.peer_discovery is not None:
        declarations.warn("dataLayer.peerDiscovery", "has no effect, as in llm-d")
    if layer.cross_replica_syncer_plugin_ref:
        path = "dataLayer.crossReplicaSyncerPluginRef"
        declarations.problem(path, "synchronising replicas is not supported yet")
    elif layer.cross_replica_sync_interval is not None:
        declarations.warn("dataLayer.crossReplicaSyncInterval", "has no effect without crossReplicaSyncerPluginRef")
    if layer.discovery is None:
        return None
    path = "dataLayer.discovery.pluginRef"
    entry = declarations.resolve(layer.discovery.plugin_ref, path, Discovery, what="discovery plugin")
    if entry is not None:
        entry.used = True
    return entry
