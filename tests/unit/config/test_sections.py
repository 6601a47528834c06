"""Sections other than plugins and scheduling profiles."""

from __future__ import annotations

from tests.unit.config.conftest import LoadPlan, LoadProblems, plugin_names


def test_feature_gates(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    assert load_plan("featureGates: [flowControl=false, haPopulateNonLeaderDatastore]").feature_gates == {
        "flowControl": False,
        "haPopulateNonLeaderDatastore": True,
    }
    assert load_problems("featureGates: [flowControl, prepareDataPlugins, flowControl=no]") == [
        "featureGates[0]: flow control is not supported yet (line 3)",
        "featureGates[1]: unknown feature gate 'prepareDataPlugins'; known: flowControl, haPopulateNonLeaderDatastore "
        "(line 3)",
        "featureGates[2]: expected flowControl=true or flowControl=false, got 'flowControl=no' (line 3)",
    ]


def test_flow_control_without_its_feature_gate_is_checked_and_warned_about(
    load_plan: LoadPlan, load_problems: LoadProblems
) -> None:
    bands = "priorityBands: [{priority: 0, maxBytes: 1Gi}, {priority: 1}]"
    plan = load_plan(f"flowControl: {{maxBytes: 2G, defaultRequestTTL: 1m30s, {bands}}}")
    assert [str(warning) for warning in plan.warnings] == [
        "flowControl: has no effect while the feature gate flowControl is off (line 3)"
    ]
    assert load_problems("""
flowControl:
  maxBytes: -3
  maxRequests: lots
  defaultRequestTTL: 5x
  priorityBands: [{priority: 1}, {priority: 1}]
""") == [
        "flowControl.maxBytes: expected a quantity of at least 0, such as 5000, 1G or 512Mi, got -3 (line 5)",
        "flowControl.maxRequests: expected a quantity of at least 0, such as 5000, 1G or 512Mi, got 'lots' (line 6)",
        "flowControl.defaultRequestTTL: expected a duration such as 60s, 1m30s or 200ms, got '5x' (line 7)",
        "flowControl.priorityBands[1].priority: duplicate priority 1 (line 8)",
    ]


def test_saturation_detectors(load_plan: LoadPlan, load_problems: LoadProblems) -> None:
    plan = load_plan("""
plugins: [{name: mine, type: concurrency-detector}]
flowControl: {saturationDetector: {pluginRef: mine}}
""")
    assert plan.saturation_detector is not None
    assert plan.saturation_detector[0] == "mine"
    assert plan.warnings == []
    assert load_problems("saturationDetector: {pluginRef: utilization-detector}") == [
        "saturationDetector.pluginRef: llm-d's plugin 'utilization-detector' is not available yet; "
        "available as saturation detector: concurrency-detector (line 3)"
    ]


def test_deprecated_top_level_fields_are_warned_about(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: concurrency-detector}]
saturationDetector: {pluginRef: concurrency-detector}
parser: {pluginRef: passthrough-parser}
""")
    assert plan.saturation_detector is not None
    assert plugin_names(plan.parsers) == ["passthrough-parser"]
    assert [str(warning) for warning in plan.warnings] == [
        "saturationDetector: deprecated: use flowControl.saturationDetector (line 5)",
        "parser: deprecated: use requestHandler.parsers (line 6)",
    ]


def test_parsers_are_created_by_type_and_duplicates_dropped(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: openai-parser, name: mine}]
requestHandler: {parsers: [{pluginRef: passthrough-parser}, {pluginRef: mine}, {pluginRef: openai-parser}]}
""")
    assert plugin_names(plan.parsers) == ["passthrough-parser", "mine"]
    assert [warning.path for warning in plan.warnings] == [
        "requestHandler.parsers[2].pluginRef",
        "openai-parser (referred to in requestHandler.parsers[2].pluginRef)",
    ]


def test_the_default_data_source_is_added_unless_one_is_configured_in_its_place(load_plan: LoadPlan) -> None:
    tuned = load_plan("plugins: [{type: metrics-data-source, parameters: {scheme: https}}]")
    assert [(item.name, item.source.scheme) for item in tuned.data_sources] == [("metrics-data-source", "https")]  # type: ignore[attr-defined]
    beside = load_plan(
        "plugins: [{type: metrics-data-source, name: other}]\ndataLayer: {sources: [{pluginRef: other}]}"
    )
    assert [item.name for item in beside.data_sources] == ["other", "metrics-data-source"]
    instead = load_plan("""
plugins: [{type: metrics-data-source, name: other}, {type: core-metrics-extractor}]
dataLayer: {sources: [{pluginRef: other, extractors: [{pluginRef: core-metrics-extractor}]}]}
""")
    assert [item.name for item in instead.data_sources] == ["other"]
    assert [str(warning) for warning in instead.warnings] == [
        "dataLayer.injectDefaults: metrics-data-source is not added, because a configured extractor writes"
        " waiting, running, kv_usage, block_size, block_count, max_lora (line 5)"
    ]


def test_without_a_data_source_readers_of_scraped_columns_are_warned_about(load_plan: LoadPlan) -> None:
    none = load_plan("plugins: [{type: queue-scorer}]\ndataLayer: {injectDefaults: false}")
    assert none.data_sources == []
    assert [str(warning) for warning in none.warnings] == [
        "plugins[0]: 'queue-scorer' reads waiting, which no data source reports (line 3)"
    ]


def test_a_column_is_written_by_the_first_of_two_extractors(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins:
- {type: metrics-data-source}
- {type: core-metrics-extractor, name: one}
- {type: core-metrics-extractor, name: two}
dataLayer: {sources: [{pluginRef: metrics-data-source, extractors: [{pluginRef: one}, {pluginRef: two}]}]}
""")
    [warning] = plan.warnings
    assert str(warning).startswith("dataLayer.sources[0]: the values of 'two' for waiting, running, ")
    assert "are ignored: 'one' writes them" in str(warning)


def test_an_extractor_must_read_what_its_data_source_delivers(load_problems: LoadProblems) -> None:
    assert load_problems("""
plugins: [{type: event-source}, {type: core-metrics-extractor}]
dataLayer: {sources: [{pluginRef: event-source, extractors: [{pluginRef: core-metrics-extractor}]}]}
""") == [
        "dataLayer.sources[0].extractors[0].pluginRef: 'core-metrics-extractor' reads str,"
        " but the data source 'event-source' delivers bytes (line 5)"
    ]


def test_one_plugin_may_be_extractor_and_producer(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: event-source}, {type: event-index}, {type: hit-scorer}]
dataLayer: {sources: [{pluginRef: event-source, extractors: [{pluginRef: event-index}]}]}
""")
    [(_, extractor)] = plan.data_sources[0].extractors
    assert [producer for name, producer in plan.producers if name == "event-index"] == [extractor]
    assert plan.warnings == []


def test_columns_of_an_extractor_are_available_to_other_plugins(load_plan: LoadPlan) -> None:
    plan = load_plan("""
plugins: [{type: event-source}, {type: event-extractor}, {type: event-scorer}]
dataLayer: {sources: [{pluginRef: event-source, extractors: [{pluginRef: event-extractor}]}]}
""")
    assert [item.name for item in plan.data_sources] == ["event-source", "metrics-data-source"]
    assert plan.warnings == []


def test_fields_for_several_replicas_have_no_effect_or_are_problems(
    load_plan: LoadPlan, load_problems: LoadProblems
) -> None:
    plan = load_plan("dataLayer: {peerDiscovery: {pluginRef: x}, crossReplicaSyncInterval: 200ms}")
    assert [warning.path for warning in plan.warnings] == [
        "dataLayer.peerDiscovery",
        "dataLayer.crossReplicaSyncInterval",
    ]
    assert load_problems("dataLayer: {crossReplicaSyncerPluginRef: redis}") == [
        "dataLayer.crossReplicaSyncerPluginRef: synchronizing replicas is not supported yet (line 3)"
    ]
