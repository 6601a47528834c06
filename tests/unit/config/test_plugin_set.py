"""The plugins of a configuration: names, references, parameters, experimental ones."""

from __future__ import annotations

from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from tests.unit.config.conftest import LoadPlan, LoadProblems


def test_names_default_to_types_and_are_unique(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    assert next(iter(load_plan("plugins: [{type: queue-scorer}]").plugins_by_name())) == "queue-scorer"
    assert load_problems("plugins: [{type: queue-scorer}, {type: queue-scorer}]") == [
        "plugins[1].name: the name 'queue-scorer' is already used by plugins[0] (line 3)"
    ]


def test_references_to_missing_plugins_and_other_kinds_are_problems(load_problems: LoadProblems) -> None:
    assert load_problems("""
plugins: [{type: queue-scorer}, {type: file-discovery, parameters: {path: e.yaml}}]
schedulingProfiles:
- name: default
  plugins: [{pluginRef: token-load-scorer}, {pluginRef: queue-scorer}, {pluginRef: que-scorer}]
requestHandler: {parsers: [{pluginRef: queue-scorer}, {pluginRef: anthropic-parser}]}
dataLayer:
  sources: [{pluginRef: core-metrics-extractor}]
  discovery: {}
""") == [
        "schedulingProfiles[0].plugins[0].pluginRef: no plugin named 'token-load-scorer' is declared; "
        "add `- type: token-load-scorer` to plugins (line 7)",
        "schedulingProfiles[0].plugins[2].pluginRef: no plugin named 'que-scorer' is declared; "
        "did you mean queue-scorer? (line 7)",
        "requestHandler.parsers[0].pluginRef: 'queue-scorer' is a scorer, expected a parser (line 8)",
        "requestHandler.parsers[1].pluginRef: llm-d's plugin 'anthropic-parser' is not available yet; "
        "available as parser: openai-parser, passthrough-parser (line 8)",
        "dataLayer.sources[0].pluginRef: no plugin named 'core-metrics-extractor' is declared; "
        "add `- type: core-metrics-extractor` to plugins (line 10)",
        "dataLayer.discovery.pluginRef: is required (line 11)",
    ]


def test_unknown_parameters_are_warnings_where_llm_d_ignores_them(load_plan: LoadPlan) -> None:
    plan = load_plan("plugins: [{type: queue-scorer, parameters: {threshold: 3, deep: {er: 1}}}]")
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[0].parameters.threshold: ignored: unknown field; no fields are known here (line 3)",
        "plugins[0].parameters.deep: ignored: unknown field; no fields are known here (line 3)",
    ]


def test_experimental_plugins_need_the_flag(registry: PluginRegistry, load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: novel-scorer}]") == [
        "plugins[0].type: 'novel-scorer' is experimental: start with --allow-experimental-plugins to use it (line 3)"
    ]
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    plan = load_config(head + "plugins: [{type: novel-scorer}]", registry, allow_experimental=True)
    assert "novel-scorer" in plan.plugins_by_name()


def test_a_plugin_with_the_name_of_a_default_of_another_kind_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: queue-scorer, name: metrics-data-source}]") == [
        "plugins[0].name: the name 'metrics-data-source' is needed for the default data source, a data source, "
        "but this is a scorer: rename it (line 3)"
    ]
