"""The effective configuration as YAML."""

from __future__ import annotations

import pytest

from epp.config import presets
from epp.config.loader import load_config
from epp.config.plan import effective_parameters
from epp.config.registry import PluginRegistry
from scorers.filters.label_selector import LabelSelectorFilter
from scorers.prefix_cache import PrefixCacheScorer
from tests.unit.config.conftest import plugin_names


@pytest.mark.parametrize("preset", presets.preset_names())
def test_the_yaml_of_a_plan_loads_to_the_same_plan(registry: PluginRegistry, preset: str) -> None:
    plan = load_config(presets.read_preset(preset), registry)
    again = load_config(plan.to_yaml(), registry)
    assert again.to_yaml() == plan.to_yaml()
    assert plugin_names(again.producers) == plugin_names(plan.producers)
    assert again.warnings == []


def test_effective_parameters_have_defaults_and_leave_out_what_has_no_value() -> None:
    scorer = PrefixCacheScorer(match_length_weight=0.5, match_length_scale_tokens=4096.0)
    assert effective_parameters(scorer) == {"matchLengthWeight": 0.5, "matchLengthScaleTokens": 4096}
    assert effective_parameters(LabelSelectorFilter()) == {}
