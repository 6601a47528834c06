"""The metrics compared with those of llm-d, and among themselves."""

from pathlib import Path

import pytest
import yaml

from epp.obs.metric_cells import MetricDefinition
from epp.obs.metric_table import ALL_METRICS, EPP_METRICS

LLMD_METRICS = yaml.safe_load((Path(__file__).parents[2] / "data" / "llmd_metrics.yaml").read_text())
ROWS = {f"llm_d_epp_{row[0]}": row for row in LLMD_METRICS["metrics"]}
DEFINITIONS = {definition.name: definition for definition in ALL_METRICS}


@pytest.mark.parametrize("name", ROWS)
def test_every_metric_of_llm_d_has_its_labels_buckets_and_alias(name: str) -> None:
    _, metric_type, labels, buckets, alias, alias_labels = ROWS[name]
    definition = DEFINITIONS[name]
    assert definition.type == metric_type
    assert definition.label_names == tuple(labels.split())
    assert list(definition.buckets) == (LLMD_METRICS["buckets"][buckets] if buckets else [])
    assert (definition.alias.name if definition.alias else "") == alias
    if definition.alias:
        pairs = [item.partition("=") for item in alias_labels.split()]
        assert list(definition.alias.label_sources) == [(theirs, ours or theirs) for theirs, _, ours in pairs]


def test_no_other_metric_has_the_prefix_of_llm_d() -> None:
    assert {definition.name for definition in ALL_METRICS if definition not in EPP_METRICS} == set(ROWS)
    assert all(definition.name.startswith("epp_") for definition in EPP_METRICS)


def test_help_says_that_llm_d_s_metrics_are_alpha() -> None:
    assert all(definition.help.startswith("[ALPHA] ") for definition in ALL_METRICS if definition not in EPP_METRICS)


@pytest.mark.parametrize("definition", ALL_METRICS, ids=lambda definition: definition.name)
def test_a_definition_is_consistent(definition: MetricDefinition) -> None:
    assert definition.name.endswith("_total") == (definition.type == "counter")
    assert bool(definition.buckets) == (definition.type == "histogram")
    assert list(definition.buckets) == sorted(set(definition.buckets))
    if definition.alias:
        assert {ours for _, ours in definition.alias.label_sources} <= set(definition.label_names)
