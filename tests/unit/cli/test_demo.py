"""The label of the second run of `epp demo`."""

from __future__ import annotations

import pytest

from epp.cli.demo import comparison_label


@pytest.mark.parametrize(
    ("config_text", "name"),
    [("", "epp default"), ("default", "epp default"), ("llm-d", "llm-d"), ("kind: X", "your configuration")],
)
def test_comparison_label(config_text: str, name: str) -> None:
    assert comparison_label(config_text) == name
