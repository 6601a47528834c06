"""From the text of an EndpointPickerConfig to a plan, or to everything that is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TypeVar

from epp.api import (
    SCRAPED_COLUMNS,
    Column,
    DataSource,
    Discovery,
    Extractor,
    Filter,
    Parser,
    Picker,
    Plugin,
    ProfileHandler,
    SchedulerProfile,
    Scorer,
)
from epp.config import defaults, sections
from epp.config.convert import convert_value
from epp.config.data_graph import DataGraph
from epp.config.plan import PickerPlan, PlannedDataSource
from epp.config.plugin_kinds import SaturationDetector
from epp.config.plugin_set import PluginEntry, PluginSet
from epp.config.registry import PluginRegistry
from epp.config.schema import API_VERSION, CONFIG_KIND, LEGACY_API_VERSION, DataLayerConfig, EndpointPickerConfig
from epp.config.yaml_document import YamlDocument, read_yaml
from epp.errors import ConfigError, Problem

P = TypeVar("P", bound=Plugin)


def load_config(
    text: str, registry: PluginRegistry, *, source: str = "", allow_experimental: bool = False
) -> PickerPlan:
    """The plan of a configuration text; `ConfigError` lists every problem with its path and line.

    `source` is what messages call the text, usually the file's name.
    """
    declarations = PluginSet(registry, allow_experimental)
    document = read_yaml(text, declarations.problems)
    if document is None:
        raise ConfigError(declarations.problems, source)
    if not isinstance(document.value, dict):
        raise ConfigError(
            [Problem("", f"expected a mapping with apiVersion {API_VERSION} and kind {CONFIG_KIND}")], source
        )
    config: EndpointPickerConfig = convert_value(document.value, EndpointPickerConfig, "", declarations.problems)
    _check_version(config, declarations)
    draft = _PlanDraft(config, declarations)
    if declarations.problems:
        raise ConfigError(_add_line_numbers(declarations.problems, document), source)
    return draft.build_plan(_add_line_numbers(declarations.warnings, document))


def render_effective_config(
    text: str, registry: PluginRegistry, *, source: str = "", allow_experimental: bool = False
) -> str:
    """The effective configuration, warnings as comments above it; raises as `load`."""
    plan = load_config(text, registry, source=source, allow_experimental=allow_experimental)
    return "".join(f"# warning: {warning}\n" for warning in plan.warnings) + plan.to_yaml()


class _PlanDraft:
    """All sections read; a plan if that left no problems."""

    def __init__(self, config: EndpointPickerConfig, declarations: PluginSet) -> None:
        for i, spec in enumerate(config.plugins):
            if spec is not None:
                declarations.declare(spec, f"plugins[{i}]")
        layer = config.data_layer or DataLayerConfig()
        self._plugin_set = declarations
        self._feature_gates = sections.parse_feature_gates(config, declarations)
        self._profiles = sections.parse_profiles(config, declarations)
        self._handler = defaults.choose_profile_handler(declarations, [draft.name for draft in self._profiles])
        self._parsers = sections.parse_parser_refs(config, declarations)
        self._detector = sections.parse_saturation_detector(config, declarations)
        sections.check_flow_control(config.flow_control, declarations)
        self._sources = sections.parse_data_sources(layer, declarations)
        self._discovery = sections.parse_discovery(layer, declarations)
        if self._handler is not None:
            self._handler.used = True
        extracted = sections.extracted_columns(self._sources)
        self._data_graph = DataGraph(declarations, extracted)
        self._ordered_producers = self._data_graph.in_dependency_order()
        _warn_about_unused(declarations, extracted)

    def build_plan(self, warnings: Sequence[Problem]) -> PickerPlan:
        """To be called only when there were no problems."""
        used = [entry for entry in self._plugin_set.entries() if entry.used]
        assert self._handler is not None, "its absence is a problem"
        return PickerPlan(
            profiles={draft.name: _build_profile(draft) for draft in self._profiles},
            profile_handler=_named_plugin(self._handler, ProfileHandler),
            producers=[(entry.name, self._data_graph.build_producer(entry)) for entry in self._ordered_producers],
            parsers=[_named_plugin(entry, Parser) for entry in self._parsers],
            data_sources=[
                PlannedDataSource(
                    *_named_plugin(source, DataSource), [_named_plugin(entry, Extractor) for entry in extractors]
                )
                for source, extractors in self._sources
            ],
            discovery=_named_plugin(self._discovery, Discovery) if self._discovery else None,
            saturation_detector=_named_plugin(self._detector, SaturationDetector) if self._detector else None,
            feature_gates=self._feature_gates,
            used_plugins={entry.name: (entry.plugin_type, entry.require_plugin()) for entry in used},
            warnings=warnings,
        )


def _check_version(config: EndpointPickerConfig, declarations: PluginSet) -> None:
    if config.api_version == LEGACY_API_VERSION:
        declarations.add_warning("apiVersion", f"deprecated: use {API_VERSION}")
    elif config.api_version != API_VERSION:
        declarations.add_problem("apiVersion", f"expected {API_VERSION}, got {config.api_version or 'nothing'}")
    if config.kind != CONFIG_KIND:
        declarations.add_problem("kind", f"expected {CONFIG_KIND}, got {config.kind or 'nothing'}")


def _warn_about_unused(declarations: PluginSet, extracted: Collection[Column]) -> None:
    for entry in declarations.entries():
        if not entry.used:
            declarations.add_warning(entry.path, f"{entry.name!r} is declared, but nothing uses it")
        elif entry.plugin is not None:
            unknown = [key for key in entry.plugin.consumes if key in SCRAPED_COLUMNS and key not in extracted]
            if unknown:
                declarations.add_warning(
                    entry.path, f"{entry.name!r} reads {unknown[0].name}, which no data source reports"
                )


def _add_line_numbers(problems: Sequence[Problem], document: YamlDocument) -> list[Problem]:
    """With lines, in the order of the file."""
    found = []
    for problem in problems:
        line = document.line_of(problem.path) if problem.path else None
        message = f"{problem.message} (line {line})" if line else problem.message
        found.append((line or sys.maxsize, Problem(problem.path, message)))
    return [problem for _, problem in sorted(found, key=lambda pair: pair[0])]


def _build_profile(draft: sections.ProfileDraft) -> SchedulerProfile:
    assert draft.picker is not None, "its absence is a problem"
    return SchedulerProfile(
        draft.name,
        filters=[_named_plugin(entry, Filter) for entry in draft.filters],
        scorers=[(entry.name, weight, _named_plugin(entry, Scorer)[1]) for entry, weight in draft.scorers],
        picker=_named_plugin(draft.picker, Picker),
    )


def _named_plugin(entry: PluginEntry, kind: type[P]) -> tuple[str, P]:
    plugin = entry.require_plugin()
    assert isinstance(plugin, kind), "references are checked for their kind"
    return entry.name, plugin
