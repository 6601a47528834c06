"""Tables of a report, before they are rendered."""

from __future__ import annotations

from epp_batch.report import build_report
from epp_batch.report.render import tables
from tests.unit.epp_batch.report.builders import build_result, run_with_eviction


def test_columns_without_values_are_omitted(report):
    assert "RTF" not in tables.build_model_table(report).headers
    run, events = run_with_eviction()
    measured = build_report(run, events, {"first": build_result(run.list_tasks()[0])}, [])
    assert "RTF" in tables.build_model_table(measured).headers
