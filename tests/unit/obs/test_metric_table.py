"""The table against what llm-d exposes, and against itself."""

from pathlib import Path

import pytest
import yaml

from epp.obs.metric_cells import MetricDefinition
from epp.obs.metric_table import ALL_METRICS, EPP_METRICS

WRITTEN = yaml.safe_load((Path(__file__).parents[2] / "data" / "llmd_metrics.yaml").read_text())
ROWS = {f"llm_d_epp_{row[0]}": row for row in WRITTEN["metrics"]}
SPECS = {spec.name: spec for spec in ALL_METRICS}


@pytest.mark.parametrize("name", ROWS)
def test_every_metric_of_llm_d_has_its_labels_buckets_and_twin(name: str) -> None:
    _, kind, labels, buckets, twin, twin_labels = ROWS[name]
    spec = SPECS[name]
    assert spec.type == kind
    assert spec.label_names == tuple(labels.split())
    assert list(spec.buckets) == (WRITTEN["buckets"][buckets] if buckets else [])
    assert (spec.alias.name if spec.alias else "") == twin
    if spec.alias:
        pairs = [item.partition("=") for item in twin_labels.split()]
        assert list(spec.alias.label_sources) == [(theirs, ours or theirs) for theirs, _, ours in pairs]


def test_nothing_else_carries_llm_d_s_prefix() -> None:
    assert {spec.name for spec in ALL_METRICS if spec not in EPP_METRICS} == set(ROWS)
    assert all(spec.name.startswith("epp_") for spec in EPP_METRICS)


def test_help_says_that_llm_d_s_metrics_are_alpha() -> None:
    assert all(spec.help.startswith("[ALPHA] ") for spec in ALL_METRICS if spec not in EPP_METRICS)


@pytest.mark.parametrize("spec", ALL_METRICS, ids=lambda spec: spec.name)
def test_a_spec_makes_sense(spec: MetricDefinition) -> None:
    assert spec.name.endswith("_total") == (spec.type == "counter")
    assert bool(spec.buckets) == (spec.type == "histogram")
    assert list(spec.buckets) == sorted(set(spec.buckets))
    if spec.alias:
        assert {ours for _, ours in spec.alias.label_sources} <= set(spec.label_names)
