"""The presets that the picker comes with."""

from __future__ import annotations

import pytest

from epp.config import presets
from epp.config.loader import load_config
from epp.config.registry import PluginRegistry
from epp.errors import ConfigError
from tests.unit.config.conftest import plugin_names


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


def test_an_unknown_preset_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'best'; available: default, llm-d"):
        presets.read_preset("best")
