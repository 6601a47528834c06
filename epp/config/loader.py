"""Loads the text of an EndpointPickerConfig: a plan, or all of its problems."""

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
    plugin_set = PluginSet(registry, allow_experimental)
    document = read_yaml(text, plugin_set.problems)
    if document is None:
        raise ConfigError(plugin_set.problems, source)
    if not isinstance(document.value, dict):
        raise ConfigError(
            [Problem("", f"expected a mapping with apiVersion {API_VERSION} and kind {CONFIG_KIND}")], source
        )
    config: EndpointPickerConfig = convert_value(document.value, EndpointPickerConfig, "", plugin_set.problems)
    _check_version(config, plugin_set)
    draft = _PlanDraft(config, plugin_set)
    if plugin_set.problems:
        raise ConfigError(_add_line_numbers(plugin_set.problems, document), source)
    return draft.build_plan(_add_line_numbers(plugin_set.warnings, document))


def render_effective_config(
    text: str, registry: PluginRegistry, *, source: str = "", allow_experimental: bool = False
) -> str:
    """The effective configuration as YAML, warnings as comments above it; raises like `load_config`."""
    plan = load_config(text, registry, source=source, allow_experimental=allow_experimental)
    return "".join(f"# warning: {warning}\n" for warning in plan.warnings) + plan.to_yaml()


class _PlanDraft:
    """All sections of a configuration, read into plugin entries; `build_plan` if that left no problems."""

    def __init__(self, config: EndpointPickerConfig, plugin_set: PluginSet) -> None:
        for i, spec in enumerate(config.plugins):
            if spec is not None:
                plugin_set.declare(spec, f"plugins[{i}]")
        layer = config.data_layer or DataLayerConfig()
        self._plugin_set = plugin_set
        self._feature_gates = sections.parse_feature_gates(config, plugin_set)
        self._profiles = sections.parse_profiles(config, plugin_set)
        self._handler = defaults.choose_profile_handler(plugin_set, [draft.name for draft in self._profiles])
        self._parsers = sections.parse_parser_refs(config, plugin_set)
        self._detector = sections.parse_saturation_detector(config, plugin_set)
        sections.check_flow_control(config.flow_control, plugin_set)
        self._sources = sections.parse_data_sources(layer, plugin_set)
        self._discovery = sections.parse_discovery(layer, plugin_set)
        if self._handler is not None:
            self._handler.used = True
        # Last, because only plugins that some section uses need producers, and because it may add some.
        extracted = sections.extracted_columns(self._sources)
        self._data_graph = DataGraph(plugin_set, extracted)
        self._ordered_producers = self._data_graph.in_dependency_order()
        _warn_about_unused(plugin_set, extracted)

    def build_plan(self, warnings: Sequence[Problem]) -> PickerPlan:
        """The plan; only if no problems were reported."""
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


def _check_version(config: EndpointPickerConfig, plugin_set: PluginSet) -> None:
    if config.api_version == LEGACY_API_VERSION:
        plugin_set.add_warning("apiVersion", f"deprecated: use {API_VERSION}")
    elif config.api_version != API_VERSION:
        plugin_set.add_problem("apiVersion", f"expected {API_VERSION}, got {config.api_version or 'nothing'}")
    if config.kind != CONFIG_KIND:
        plugin_set.add_problem("kind", f"expected {CONFIG_KIND}, got {config.kind or 'nothing'}")


def _warn_about_unused(plugin_set: PluginSet, extracted: Collection[Column]) -> None:
    for entry in plugin_set.entries():
        if not entry.used:
            plugin_set.add_warning(entry.path, f"{entry.name!r} is declared, but not used")
        elif entry.plugin is not None:
            unknown = [key for key in entry.plugin.consumes if key in SCRAPED_COLUMNS and key not in extracted]
            if unknown:
                plugin_set.add_warning(
                    entry.path, f"{entry.name!r} reads {unknown[0].name}, which no data source reports"
                )


def _add_line_numbers(problems: Sequence[Problem], document: YamlDocument) -> list[Problem]:
    """The problems with the line of their path, in the order of the file; those without a line come last."""
    with_lines = []
    for problem in problems:
        line = document.line_of(problem.path) if problem.path else None
        message = f"{problem.message} (line {line})" if line else problem.message
        with_lines.append((line or sys.maxsize, Problem(problem.path, message)))
    return [problem for _, problem in sorted(with_lines, key=lambda pair: pair[0])]


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
