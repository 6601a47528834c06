"""Loading a configuration: version, profiles, weights, all problems at once."""

from __future__ import annotations

import pytest

from epp.config.loader import load_config, render_effective_config
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from tests.unit.config.conftest import LoadPlan, LoadProblems


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


def test_two_scorers_of_one_type(load_plan: LoadPlan) -> None:
    profile = load_plan("""
plugins:
- {type: prefix-cache-scorer, name: share}
- {type: prefix-cache-scorer, name: length, parameters: {matchLengthWeight: 1}}
""").profiles["default"]
    assert [name for name, _, _ in profile.scorers] == ["share", "length"]


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


def test_profile_names_are_required_and_unique(load_problems: LoadProblems) -> None:
    found = load_problems("""
plugins: [{type: queue-scorer}, {type: two-profile-handler}]
schedulingProfiles: [{name: a, plugins: []}, {name: a, plugins: []}, {plugins: []}]
""")
    assert found == [
        "schedulingProfiles[1].name: duplicate profile name 'a' (line 5)",
        "schedulingProfiles[2].name: is required (line 5)",
    ]


def test_the_effective_configuration_has_warnings_as_comments(registry: PluginRegistry) -> None:
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    text = render_effective_config(head + "plugins: [{type: queue-scorer, parameters: {x: 1}}]", registry)
    assert text.startswith("# warning: plugins[0].parameters.x: ignored")
    assert load_config(text, registry).to_yaml() in text
