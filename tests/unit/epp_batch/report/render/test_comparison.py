"""Two runs beside each other, in every format."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.report import DevicePrices, build_report, compare_reports
from epp_batch.report.render import render_html, render_markdown
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task, run_with_eviction
from tests.unit.epp_batch.report.render.conftest import Page, print_to_text


def test_two_runs_are_compared_in_every_format(report):
    run, events = run_with_eviction()
    slower = [msgspec.structs.replace(event, at=1000 + 2 * (event.at - 1000)) for event in events]
    baseline = build_report(msgspec.structs.replace(run, name="before"), slower, {}, [], DevicePrices(gpu_hour=4.0))
    page = Page(render_html(report, baseline))
    assert page.tags.count("svg") == 2
    assert "Against before: makespan −50.0 % (13 min 20 s before) and mean completion −50.0 %" in page.text
    assert "| makespan | 13 min 20 s | 6 min 40 s | −50.0 % |" in render_markdown(report, baseline)
    assert "−50.0 %" in print_to_text(report, baseline)
    changes = {change.name: change for change in compare_reports(report, baseline)}
    assert changes["makespan"].relative_change == pytest.approx(-0.5)
    assert changes["speed, × real time"].relative_change == pytest.approx(1.0)
    assert changes["cost"].relative_change == pytest.approx(-0.5)
    assert "failed" not in changes


def test_a_comparison_of_different_work_has_a_note(report):
    other = build_report(
        build_run(("a", build_task("first")), ("c", build_task("third")), name="other"),
        attempt_events("a", 0, 1, 2, 9, "n"),
        {},
        [],
    )
    note = "Not the same work: 1 recording with the same model in both, 1 only in other, 1 only in calls."
    assert note in render_markdown(report, other)
    assert note in print_to_text(report, other)
