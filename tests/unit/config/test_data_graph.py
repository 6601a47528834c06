"""Which producers run, in which order, and whose outputs each plugin reads."""

from __future__ import annotations

import pytest

from epp.api import RequestAttribute
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from tests.unit.config.conftest import CONFIG_HEADER, LoadPlan, LoadProblems, StubProducer, plugin_names


def test_default_producers_are_added_for_consumed_keys(load_plan: LoadPlan) -> None:
    assert load_plan("plugins: [{type: queue-scorer}]").producers == []
    assert load_plan("plugins: [{type: active-request-scorer}]").producers == []
    assert plugin_names(load_plan("plugins: [{type: token-load-scorer}]").producers) == [
        "token-producer",
        "approx-prefix-cache-producer",
        "inflight-load-producer",
    ]


def test_a_declared_producer_that_is_named_replaces_the_default_one(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins:
- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: mine}}
- {type: approx-prefix-cache-producer, name: mine, parameters: {autoTune: false, blockSizeTokens: 64}}
""")
    assert plugin_names(plan.producers) == ["token-producer", "mine"]
    assert plan.plugins_by_name()["mine"].block_size_tokens == 64  # type: ignore[attr-defined]


def test_a_single_unreferenced_producer_replaces_the_default_one_whatever_its_name(load_plan: LoadPlan) -> None:
    plan = load_plan("plugins: [{type: prefix-cache-scorer}, {type: approx-prefix-cache-producer, name: mine}]")
    assert plugin_names(plan.producers) == ["token-producer", "mine"]
    assert plan.warnings == []


TIERED = """
plugins:
- {type: prefix-cache-scorer, name: gpu}
- {type: prefix-cache-scorer, name: cpu, parameters: {prefixMatchInfoProducerName: cpu-tier}}
- type: approx-prefix-cache-producer
  name: cpu-tier
  parameters: {autoTune: false}
"""


def test_the_default_producer_is_added_beside_a_referenced_one(load_plan: LoadPlan, registry: PluginRegistry) -> None:
    """llm-d's tiered prefix cache: the scorer of the GPU tier names no producer."""
    plan = load_plan(TIERED)
    assert plugin_names(plan.producers) == ["token-producer", "cpu-tier", "approx-prefix-cache-producer"]
    gpu, cpu = (plan.plugins_by_name()[name].consumes for name in ("gpu", "cpu"))
    assert [need.name for need in (*gpu, *cpu)] == [
        "prefix_blocks", "prefix_info", "prefix_blocks/cpu-tier", "prefix_info/cpu-tier",
    ]  # fmt: skip
    assert plugin_names(load_config(plan.to_yaml(), registry).producers) == plugin_names(plan.producers)


def test_a_reference_to_an_unknown_producer_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems(
        "plugins: [{type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: precise}}]"
    ) == [
        "plugins[0].parameters.prefixMatchInfoProducerName: unknown producer 'precise'; available: "
        "approx-prefix-cache-producer, inflight-load-producer, token-producer (line 3)"
    ]


def test_a_reference_to_a_plugin_of_unknown_type_is_no_second_problem(load_problems: LoadProblems) -> None:
    found = load_problems("""
plugins:
- {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: precise}}
- {type: precise-prefix-cache-producer, name: precise}
- {type: disagg-profile-handler}
schedulingProfiles: [{name: a, plugins: [{pluginRef: precise}, {pluginRef: prefix-cache-scorer}]}, {name: b}]
""")
    assert [problem.partition(":")[0] for problem in found] == ["plugins[1].type", "plugins[2].type"]


def test_a_reference_to_a_producer_of_other_outputs_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems(
        "plugins: [{type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: t}},"
        " {type: token-producer, name: t}]"
    ) == [
        "plugins[0]: consumes 'prefix_blocks' of 't', which does not produce it (line 3)",
        "plugins[0]: consumes 'prefix_info' of 't', which does not produce it (line 3)",
    ]


def test_a_second_producer_whose_outputs_no_plugin_reads_is_warned_about(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: prefix-cache-scorer}, {type: approx-prefix-cache-producer},
          {type: approx-prefix-cache-producer, name: b}]
""")
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[2]: no plugin reads the outputs of 'b': name it in a `…ProducerName` parameter (line 5)"
    ]


def test_two_producers_of_a_column_without_default_producer_are_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: weather}, {type: weather, name: b}]") == [
        "plugins[1]: produces 'rain', which 'weather' produces too: declare only one of them (line 3)"
    ]


def test_a_consumed_key_without_producer_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: moody-scorer}]") == [
        "plugins[0]: consumes 'mood', which no declared plugin produces (line 3)"
    ]


class OtherMoodProducer(StubProducer, type="other-mood"):
    produces = (RequestAttribute("mood", "", "a second object of the name"),)


def test_a_consumed_key_without_producer_is_explained(registry: PluginRegistry) -> None:
    classes = {plugin_type: registry.find_class(plugin_type) for plugin_type in registry}
    with pytest.raises(ConfigError) as caught:
        load_config(
            CONFIG_HEADER + "plugins: [{type: moody-scorer}, {type: other-mood}, {type: event-scorer}]",
            PluginRegistry.from_classes({**classes, "other-mood": OtherMoodProducer}),
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "plugins[0]: consumes 'mood', which no declared plugin produces; 'other-mood' produces another key of that "
        "name: both must import the same object (line 3)",
        "plugins[2]: consumes 'events', which no declared plugin produces and no extractor in dataLayer.sources writes "
        "(line 3)",
    ]


def test_a_cycle_of_producers_is_a_problem(load_problems: LoadProblems) -> None:
    assert load_problems("plugins: [{type: chicken}, {type: egg}]") == [
        "plugins[0]: producers consume each other's outputs in a cycle: chicken -> egg -> chicken (line 3)"
    ]


def test_an_unused_plugin_is_warned_about(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: queue-scorer}, {type: token-load-scorer}]
schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]
""")
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[1]: 'token-load-scorer' is declared, but not used (line 4)"
    ]
    assert "token-load-scorer" not in plan.plugins_by_name()


def test_producers_in_a_profile_and_weights_of_filters_are_warned_about(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: decode-filter}, {type: token-producer}]
schedulingProfiles:
- name: default
  plugins: [{pluginRef: decode-filter, weight: 3}, {pluginRef: token-producer}]
""")
    assert [warning.path for warning in plan.warnings] == [
        "schedulingProfiles[0].plugins[0].weight",
        "schedulingProfiles[0].plugins[1]",
    ]
