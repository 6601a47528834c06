"""The Gantt chart: well-formed SVG within its bounds, with a bar for every attempt."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from epp_batch.report import build_report
from epp_batch.report.render import gantt
from epp_batch.report.render.svg import CHART_WIDTH
from tests.unit.epp_batch.report.builders import (
    attempt_events,
    build_event,
    build_run,
    build_task,
    run_with_eviction,
    run_with_many_attempts,
)

SVG = "{http://www.w3.org/2000/svg}"


def parse_svg(report, **options):
    return ET.fromstring(gantt.render_svg(report, **options))


def bars(root):
    return [group for group in root.iter(f"{SVG}g") if group.get("data-unit") is not None]


def titles(root):
    return [title.text for title in root.iter(f"{SVG}title")]


def texts(root):
    return [text.text for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("units", "gpus", "slots"), [(32, 8, False), (32, 8, True), (1000, 8, True), (1000, 200, False)]
)
def test_every_attempt_has_a_bar_within_the_chart(units, gpus, slots):
    root = parse_svg(run_with_many_attempts(units, gpus, slots))
    assert len(bars(root)) == units
    height = float(root.get("viewBox").split()[3])
    for rect in root.iter(f"{SVG}rect"):
        left, top = float(rect.get("x")), float(rect.get("y"))
        assert left >= 0
        assert left + float(rect.get("width")) <= CHART_WIDTH
        assert top >= 0
        assert top + float(rect.get("height")) <= height


def test_an_eviction_has_a_mark_and_a_title():
    root = parse_svg(build_report(*run_with_eviction(), {}, []))
    assert len([path for path in root.iter(f"{SVG}path") if path.get("class") == "mark"]) == 2  # one in the legend
    assert any("evicted: Preempted: InClusterQueue" in title for title in titles(root))
    assert "evicted" in texts(root)


def test_failures_are_hatched_with_the_pattern_of_this_chart():
    run = build_run(("a", build_task("x")))
    report = build_report(
        run, attempt_events("a", 0, 1, 2, 10, "n/gpu-0", "failed", detail="decode: it breaks off"), {}, []
    )
    text = gantt.render_svg(report, id_prefix="second")
    assert 'id="second-hatch"' in text
    assert "url(#second-hatch)" in text
    assert any("failed: decode: it breaks off" in title for title in titles(ET.fromstring(text)))


def test_file_names_are_escaped():
    run = build_run(("a", build_task('<script>alert("1")</script>&')))
    text = gantt.render_svg(build_report(run, attempt_events("a", 0, 1, 2, 900, 'n/"><b>'), {}, []))
    ET.fromstring(text)
    assert "<script" not in text
    assert "<b>" not in text


def test_length_extends_the_axis():
    report = build_report(*run_with_eviction(), {}, [])
    alone, longer = parse_svg(report), parse_svg(report, length=2 * report.length)
    first, half = (float(list(bars(root)[-1].iter(f"{SVG}rect"))[-1].get("width")) for root in (alone, longer))
    assert half == pytest.approx(first / 2, abs=0.2)


def test_models_fix_the_order_of_colours():
    text = gantt.render_svg(build_report(*run_with_eviction(), {}, []), models=["large", "medium"])
    assert '<rect class="m0" x' in text
    assert text.index(">large<") < text.index(">medium<")


@pytest.mark.parametrize("events", [[], [build_event(0, "a", "created")], attempt_events("a", 5, 5, 5, 5, "")])
def test_runs_without_attempts_or_duration_have_a_chart(events):
    parse_svg(build_report(build_run(("a", build_task("x"))), events, {}, []))
