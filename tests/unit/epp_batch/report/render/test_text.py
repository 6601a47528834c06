"""Figures and sentences for people."""

from __future__ import annotations

import pytest

from epp_batch.report import build_report
from epp_batch.report.render import render_html, text
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task
from tests.unit.epp_batch.report.render.conftest import Page


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"), (0, "0.00 s"), (0.424, "0.42 s"), (9.996, "10.0 s"), (99.94, "99.9 s"), (99.96, "1 min 40 s"),
        (3_599.6, "1 h 00 min"), (7_384, "2 h 03 min"), (200_000, "2 d 7 h"), (-3, "-3.00 s"),
    ],
)  # fmt: skip
def test_format_duration(seconds, expected):
    assert text.format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0, "0.00 EUR"), (0.012, "0.012 EUR"), (1e-7, "< 0.0001 EUR"), (1234.5, "1,234.50 EUR")],
)  # fmt: skip
def test_format_money(value, expected):
    assert text.format_money(value, "EUR") == expected


def test_a_run_that_has_not_finished_is_summarized_as_such():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    report = build_report(run, attempt_events("a", 0, 1, 2, 10, "n")[:3], {}, [])
    assert (
        text.summarize_report(report) == "0 of 2 recordings transcribed in 2.00 s. Not finished: 1 running, 1 waiting."
    )
    Page(render_html(report))
