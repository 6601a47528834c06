"""Plans of configurations, and the problems reported for invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epp.config import presets
from epp.config.loader import load_config, render_effective_config
from epp.config.plan import PickerPlan
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError

LoadPlan = Callable[[str], PickerPlan]
LoadProblems = Callable[[str], list[str]]


def plugin_names(pairs: Any) -> list[str]:
    return [pair[0] for pair in pairs]


def test_the_llm_d_preset(registry: PluginRegistry) -> None:
    plan = load_config(presets.read_preset("llm-d"), registry)
    profile = plan.profiles["default"]
    assert [(name, weight) for name, weight, _ in profile.scorers] == [
        ("queue-scorer", 2),
        ("kv-cache-utilization-scorer", 2),
        ("prefix-cache-scorer", 3),
    ]
    assert profile.picker[0] == "max-score-picker"
    assert plan.profile_handler[0] == "single-profile-handler"
    assert plugin_names(plan.producers) == ["token-producer", "approx-prefix-cache-producer"]
    assert plugin_names(plan.parsers) == ["openai-parser", "passthrough-parser"]
    assert plan.data_sources[0].name == "metrics-data-source"
    assert plugin_names(plan.data_sources[0].extractors) == ["core-metrics-extractor"]
    assert plan.warnings == []


def test_the_default_preset(registry: PluginRegistry) -> None:
    plan = load_config(presets.read_preset(), registry)
    assert plugin_names(plan.producers) == ["token-producer", "approx-prefix-cache-producer", "inflight-load-producer"]
    assert plan.warnings == []


@pytest.mark.parametrize("preset", presets.preset_names())
def test_the_yaml_of_a_plan_loads_to_the_same_plan(registry: PluginRegistry, preset: str) -> None:
    plan = load_config(presets.read_preset(preset), registry)
    again = load_config(plan.to_yaml(), registry)
    assert again.to_yaml() == plan.to_yaml()
    assert plugin_names(again.producers) == plugin_names(plan.producers)
    assert again.warnings == []


def test_an_unknown_preset_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'best'; available: default, llm-d"):
        presets.read_preset("best")


def test_the_legacy_api_version_is_warned_about(registry: PluginRegistry) -> None:
    plan = load_config("apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n", registry)
    assert [str(warning) for warning in plan.warnings] == [
        "apiVersion: deprecated: use llm-d.ai/v1alpha1 (line 1)",
    ]


def test_version_and_kind_are_checked(registry: PluginRegistry) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("apiVersion: v1\n", registry, source="picker.yaml")
    assert str(caught.value) == (
        "picker.yaml: 2 problems in the configuration\n"
        "  apiVersion: expected llm-d.ai/v1alpha1, got v1 (line 1)\n"
        "  kind: expected EndpointPickerConfig, got nothing"
    )


CONFIG_WITH_PROBLEMS = """
plugins:
- type: queue-scorer
- type: prefix-cache-scorer
  parameters: {matchLengthWeight: 2, matchLengthScaleTokens: many, blockSize: 5}
- type: approx-prefix-cache-producer
  parameters: {blockSizeToken: 64}
- type: qeue-scorer
  name: mine
- type: lora-affinity-scorer
- name: queue-scorer
  type: random-picker
- tpye: queue-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: .nan
  - pluginRef: prefix-cache-scorer
    weight: heavy
  - pluginRef: queue-scorerr
  - weight: 3
featureGates: [dataLayer]
schedulingProfile: []
"""


def test_all_problems_are_reported_at_once_in_file_order(registry: PluginRegistry, load_problems: LoadProblems) -> None:
    everything = ", ".join(registry)
    found = load_problems(CONFIG_WITH_PROBLEMS)
    assert found == [
        "plugins[1].parameters.blockSize: unknown field; known fields: matchLengthScaleTokens, matchLengthWeight, "
        "prefixMatchInfoProducerName (line 7)",
        "plugins[1].parameters.matchLengthWeight: expected a number <= 1.0 (line 7)",
        "plugins[1].parameters.matchLengthScaleTokens: expected a number, got text (line 7)",
        "plugins[2].parameters.blockSizeToken: unknown field; did you mean `blockSizeTokens`? (line 9)",
        "plugins[3].type: unknown plugin type 'qeue-scorer'; did you mean queue-scorer? (line 10)",
        f"plugins[4].type: llm-d's plugin 'lora-affinity-scorer' is not available yet; available: {everything} "
        "(line 12)",
        "plugins[5].name: the name 'queue-scorer' is already used by plugins[0] (line 13)",
        "plugins[6].tpye: unknown field; did you mean `type`? (line 15)",
        "schedulingProfiles[0].plugins[0].weight: expected a number from 0 to 1e+06, got nan (line 20)",
        "schedulingProfiles[0].plugins[1].weight: expected a number or null, got text (line 22)",
        "schedulingProfiles[0].plugins[2].pluginRef: no plugin named 'queue-scorerr' is declared; "
        "did you mean queue-scorer? (line 23)",
        "schedulingProfiles[0].plugins[3].pluginRef: is required (line 24)",
        "featureGates[0]: unknown feature gate 'dataLayer'; known: flowControl, haPopulateNonLeaderDatastore (line 25)",
        "schedulingProfile: unknown field; did you mean `schedulingProfiles`? (line 26)",
    ]


def test_names_default_to_types_and_are_unique(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    assert next(iter(load_plan("plugins: [{type: queue-scorer}]").plugins_by_name())) == "queue-scorer"
    assert load_problems("plugins: [{type: queue-scorer}, {type: queue-scorer}]") == [
        "plugins[1].name: the name 'queue-scorer' is already used by plugins[0] (line 3)"
    ]


def test_two_scorers_of_one_type(load_plan: LoadPlan) -> None:
    profile = load_plan("""
plugins:
- {type: prefix-cache-scorer, name: share}
- {type: prefix-cache-scorer, name: length, parameters: {matchLengthWeight: 1}}
""").profiles["default"]
    assert [name for name, _, _ in profile.scorers] == ["share", "length"]


def test_an_omitted_profile_has_all_filters_in_file_order(load_plan: LoadPlan) -> None:
    profile = load_plan("""
plugins:
- {type: prefill-filter}
- {type: queue-scorer}
- {type: decode-filter}
- {type: random-picker}
""").profiles["default"]
    assert plugin_names(profile.filters) == ["prefill-filter", "decode-filter"]
    assert [(name, weight) for name, weight, _ in profile.scorers] == [("queue-scorer", 1.0)]
    assert profile.picker[0] == "random-picker"


def test_a_profile_without_picker_is_a_problem_if_several_are_declared(load_problems: LoadProblems) -> None:
    assert load_problems("""
plugins: [{type: queue-scorer}, {type: random-picker}, {type: max-score-picker}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]
""") == [
        "schedulingProfiles[0]: this profile has no picker and several are declared (random-picker, max-score-picker): "
        "add a pluginRef to one of them (line 5)"
    ]


def test_two_pickers_in_a_profile_are_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: random-picker}, {type: max-score-picker}]") == [
        "plugins: second picker 'max-score-picker': a profile has one, and 'random-picker' comes before it (line 3)"
    ]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("-1", "expected a number from 0 to 1e+06, got -1"),
        ("1e39", "expected a number from 0 to 1e+06, got 1e+39"),
        (".inf", "expected a number from 0 to 1e+06, got inf"),
        (".nan", "expected a number from 0 to 1e+06, got nan"),
        ("true", "expected a number or null, got a boolean"),
        ("'2'", "expected a number or null, got text"),
    ],
)
def test_a_weight_must_be_a_number_in_range(load_problems: LoadProblems, weight: str, message: str) -> None:
    text = f"""
plugins: [{{type: queue-scorer}}]
schedulingProfiles: [{{name: default, plugins: [{{pluginRef: queue-scorer, weight: {weight}}}]}}]
"""
    assert load_problems(text) == [f"schedulingProfiles[0].plugins[0].weight: {message} (line 5)"]


def test_a_weight_may_be_zero_or_written_with_an_exponent(load_plan: LoadPlan) -> None:
    profile = load_plan("""
plugins: [{type: queue-scorer}, {type: token-load-scorer}]
schedulingProfiles:
- name: default
  plugins: [{pluginRef: queue-scorer, weight: 0}, {pluginRef: token-load-scorer, weight: 1e-1}]
""").profiles["default"]
    assert [weight for _, weight, _ in profile.scorers] == [0, 0.1]


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


def test_profile_names_are_required_and_unique(load_problems: LoadProblems) -> None:
    found = load_problems("""
plugins: [{type: queue-scorer}, {type: two-profile-handler}]
schedulingProfiles: [{name: a, plugins: []}, {name: a, plugins: []}, {plugins: []}]
""")
    assert found == [
        "schedulingProfiles[1].name: duplicate profile name 'a' (line 5)",
        "schedulingProfiles[2].name: is required (line 5)",
    ]


def test_profile_handlers_are_checked_against_the_profiles(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    two = "schedulingProfiles: [{name: prefill}, {name: decode}]\n"
    assert load_problems(two) == ["plugins: no profile handler is declared for the 2 scheduling profiles"]
    assert load_problems(two + "plugins: [{type: single-profile-handler}]") == [
        "schedulingProfiles: 'single-profile-handler' takes exactly one scheduling profile, not 2 (prefill, decode) "
        "(line 3)"
    ]
    assert load_problems("plugins: [{type: single-profile-handler}, {type: two-profile-handler}]") == [
        "plugins[1]: second profile handler: only one may be declared, and plugins[0] is one (line 3)"
    ]
    assert list(load_plan(two + "plugins: [{type: two-profile-handler}]").profiles) == ["prefill", "decode"]


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


def test_null_means_the_default(load_plan: LoadPlan) -> None:
    plan = load_plan(
        "plugins: [{type: prefix-cache-scorer, name: null, parameters: {matchLengthWeight: null}}]\ndataLayer:"
    )
    scorer = plan.profiles["default"].scorers[0][2]
    assert scorer.match_length_weight == 0  # type: ignore[attr-defined]


def test_a_plugin_with_the_name_of_a_default_of_another_kind_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: queue-scorer, name: metrics-data-source}]") == [
        "plugins[0].name: the name 'metrics-data-source' is needed for the default data source, a data source, "
        "but this is a scorer: rename it (line 3)"
    ]


def test_the_effective_configuration_has_warnings_as_comments(registry: PluginRegistry) -> None:
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    text = render_effective_config(head + "plugins: [{type: queue-scorer, parameters: {x: 1}}]", registry)
    assert text.startswith("# warning: plugins[0].parameters.x: ignored")
    assert load_config(text, registry).to_yaml() in text
