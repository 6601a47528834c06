"""Reports on a terminal."""

from __future__ import annotations

import pytest

from tests.unit.epp_batch.report.render.conftest import print_to_text


def test_the_terminal_draws_devices_and_running_units(report):
    lines = print_to_text(report).splitlines()
    (row,) = [line for line in lines if line.startswith("gpu-0")]
    assert "×" in row  # the eviction
    assert "█" in row
    assert any(line.startswith("running") and line.endswith(" 1") for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_tables_drop_columns_to_fit_the_terminal(report, width):
    for line in print_to_text(report, width=width).split("latency", 1)[1].splitlines():
        assert len(line) <= width
        assert "…" not in line or width < 60


def test_a_failure_is_one_line_on_narrow_terminals(failed):
    assert f"  {failed.troubles[0]}" in print_to_text(failed, width=40).splitlines()
