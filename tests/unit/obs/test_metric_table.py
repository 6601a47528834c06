"""The table against what llm-d exposes, and against itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from epp.obs.metric_table import OURS, TABLE

WRITTEN = yaml.safe_load((Path(__file__).parents[2] / "data" / "llmd_metrics.yaml").read_text())
ROWS = {f"llm_d_epp_{row[0]}": row for row in WRITTEN["metrics"]}
SPECS = {spec.name: spec for spec in TABLE}


@pytest.mark.parametrize("name", ROWS)
def test_every_metric_of_llm_d_has_its_labels_buckets_and_twin(name: str) -> None:
    _, kind, labels, buckets, twin, twin_labels = ROWS[name]
    spec = SPECS[name]
    assert spec.kind == kind
    assert spec.labels == tuple(labels.split())
    assert list(spec.buckets) == (WRITTEN["buckets"][buckets] if buckets else [])
    assert (spec.twin.name if spec.twin else "") == twin
    if spec.twin:
        pairs = [item.partition("=") for item in twin_labels.split()]
        assert list(spec.twin.labels) == [(theirs, ours or theirs) for theirs, _, ours in pairs]


def test_nothing_else_carries_llm_d_s_prefix() -> None:
    assert {spec.name for spec in TABLE if spec not in OURS} == set(ROWS)
    assert all(spec.name.startswith("epp_") for spec in OURS)


def test_help_says_that_llm_d_s_metrics_are_alpha() -> None:
    assert all(spec.help.startswith("[ALPHA] ") for spec in TABLE if spec not in OURS)


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_a_spec_makes_sense(spec: Any) -> None:
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert bool(spec.buckets) == (spec.kind == "histogram")
    assert list(spec.buckets) == sorted(set(spec.buckets))
    if spec.twin:
        assert {ours for _, ours in spec.twin.labels} <= set(spec.labels)
