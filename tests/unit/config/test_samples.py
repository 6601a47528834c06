"""Configurations written for llm-d's picker, loaded with the built-in plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from epp.config import presets
from epp.config.loader import load_config, render_effective_config
from epp.config.plan import PickerPlan
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError

SAMPLES = Path(__file__).parent / "samples"
REGISTRY = PluginRegistry.load()


def load_sample(name: str) -> PickerPlan:
    return load_config((SAMPLES / name).read_text(), REGISTRY, source=name)


def load_problems(name: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_sample(name)
    return [str(problem) for problem in caught.value.problems]


def test_a_configuration_with_file_discovery() -> None:
    plan = load_sample("file_discovery.yaml")
    assert plan.discovery is not None
    assert plan.discovery[0] == "file-discovery"
    assert [(name, weight) for name, weight, _ in plan.profiles["default"].scorers] == [("queue", 1)]
    assert [source.name for source in plan.data_sources] == ["metrics-data-source"]
    assert [str(warning) for warning in plan.warnings] == [
        "plugins[3].parameters.scorer: ignored: unknown field; no fields are known here (line 18)",
        "plugins[3].parameters.picker: ignored: unknown field; no fields are known here (line 19)",
    ]


def test_a_decode_only_configuration() -> None:
    plan = load_sample("decode_only.yaml")
    profile = plan.profiles["default"]
    assert [name for name, _ in profile.filters] == ["decode-filter", "newest"]
    assert [(name, weight) for name, weight, _ in profile.scorers] == [
        ("active-request-scorer", 1),
        ("token-load-scorer", 2.5),
    ]
    assert profile.picker[1].max_num_of_endpoints == 3
    assert [name for name, _ in plan.producers] == [
        "token-producer",
        "approx-prefix-cache-producer",
        "inflight-load-producer",
    ]
    assert [warning.path for warning in plan.warnings] == ["apiVersion", "flowControl"]


def test_plugins_that_are_not_available_yet_are_the_only_problems() -> None:
    baseline = load_problems("optimized_baseline.yaml")
    assert len(baseline) == 1
    assert baseline[0].startswith("plugins[3].type: llm-d's plugin 'no-hit-lru-scorer' is not available yet; ")
    disaggregated = load_problems("prefill_decode.yaml")
    assert disaggregated[0].startswith("plugins[5].type: llm-d's plugin 'disagg-profile-handler' is not available yet")
    assert len(disaggregated) == 1


@pytest.mark.parametrize("name", ["file_discovery.yaml", "decode_only.yaml"])
def test_the_yaml_of_a_sample_plan_loads_to_the_same_plan(name: str) -> None:
    described = load_sample(name).to_yaml()
    again = load_config(described, REGISTRY)
    assert again.to_yaml() == described
    assert again.warnings == []


@pytest.mark.parametrize("name", presets.preset_names())
def test_presets_load_without_warnings(name: str) -> None:
    assert not render_effective_config(presets.read_preset(name), REGISTRY).startswith("#")
