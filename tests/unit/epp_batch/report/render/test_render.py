"""Reports as HTML, Markdown, CSV, JSON and on the terminal."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from epp_batch.report import DevicePrices, Report, build_report, compare_reports
from epp_batch.report.render import (
    render_csv,
    render_html,
    render_json,
    render_markdown,
    tables,
    terminal,
    text,
)
from tests.unit.epp_batch.report.builders import attempt_events, build_result, build_run, build_task, run_with_eviction

HOSTILE = '=cmd|"<img src=x onerror=alert(1)>`*_'


class Page(HTMLParser):
    """Checks that elements nest, and records the visible text and what a browser would fetch."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.visible, self.tags, self.fetched = [], [], [], []
        self.feed(text)
        assert self.open == ["html"] or not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.visible.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.visible).split())


def print_to_text(report, other=None, width=160):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    terminal.print_report(report, console, other)
    return console.file.getvalue()


@pytest.fixture
def report():
    return build_report(*run_with_eviction(), {}, [], DevicePrices(gpu_hour=4.0))


@pytest.fixture
def failed():
    run = build_run(("a", build_task(HOSTILE, HOSTILE)), name=HOSTILE)
    return build_report(run, attempt_events("a", 0, 1, 2, 100, HOSTILE, "failed", detail=HOSTILE), {}, [])


def test_the_page_loads_nothing(report):
    page = Page(render_html(report))
    assert page.fetched == []
    assert "http" not in render_html(report).replace("http://www.w3.org/2000/svg", "")
    assert {"svg", "table", "style"} <= set(page.tags)


def test_the_page_starts_with_the_summary(report):
    content = Page(render_html(report)).text
    assert content.startswith("calls calls simulated, in virtual time 2 of 2 recordings transcribed in 6 min 40 s: ")
    assert content.index("makespan") < content.index("Timeline") < content.index("Latencies")
    assert "1 eviction, 1 by preemption." in content


def test_failures_come_before_all_figures(failed):
    content = Page(render_html(failed)).text
    assert content.index("Failures") < content.index("makespan")


def test_file_names_are_escaped_in_the_page(failed):
    page = Page(render_html(failed))
    assert "img" not in page.tags
    assert page.tags.count("script") == 1


def test_hundreds_of_recordings_are_folded():
    names = [f"u{number}" for number in range(200)]
    run = build_run(*((name, build_task(name)) for name in names))
    report = build_report(run, [event for name in names for event in attempt_events(name, 0, 1, 2, 10, "n")], {}, [])
    assert "details" in Page(render_html(report)).tags
    assert "140 more are in the CSV." in render_markdown(report)


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


def test_json_decodes_to_the_report(report):
    assert msgspec.json.decode(render_json(report), type=Report) == report


def test_csv_has_a_line_for_each_recording(report):
    lines = list(csv.DictReader(io.StringIO(render_csv(report))))
    assert [line["stem"] for line in lines] == ["first", "second"]
    assert float(lines[1]["completion"]) == 400
    assert lines[1]["evictions"] == "1"
    assert lines[0]["wer"] == ""


def test_csv_has_no_formulas(failed):
    (line,) = csv.DictReader(io.StringIO(render_csv(failed)))
    assert line["stem"] == f"'{HOSTILE}"


def test_markdown_is_escaped_and_tables_keep_their_columns(failed):
    rows = [line for line in render_markdown(failed).splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in rows]
    heads = [count for line, count in zip(rows, bars, strict=True) if set(line) <= set("|-:")]
    assert set(bars) == set(heads)
    assert not re.search(r"(?<!\\)[<`*_]", "\n".join(rows))


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


def test_columns_without_values_are_omitted(report):
    assert "RTF" not in tables.build_model_table(report).headers
    run, events = run_with_eviction()
    measured = build_report(run, events, {"first": build_result(run.list_tasks()[0])}, [])
    assert "RTF" in tables.build_model_table(measured).headers


def test_a_run_that_has_not_finished_is_summarized_as_such():
    run = build_run(("a", build_task("x")), ("b", build_task("y")))
    report = build_report(run, attempt_events("a", 0, 1, 2, 10, "n")[:3], {}, [])
    assert (
        text.summarize_report(report) == "0 of 2 recordings transcribed in 2.00 s. Not finished: 1 running, 1 waiting."
    )
    Page(render_html(report))


def test_a_run_that_was_admitted_and_never_ran_renders_in_every_format():
    report = build_report(
        build_run(("a", build_task("x"))),
        attempt_events("a", 0, 1, 2, 10, "n")[:2] + attempt_events("a", 0, 1, 2, 9, "n")[3:],
        {},
        [],
    )
    assert report.concurrency.peak == 0
    assert "never ran" in render_html(report)
    assert print_to_text(report)


def test_a_run_that_has_not_begun_renders_in_every_format():
    report = build_report(build_run(("a", build_task("x"))), [], {}, [])
    assert "Nothing has run yet." in Page(render_html(report)).text
    assert print_to_text(report).splitlines()[1] == "0 of 1 recording transcribed. Not finished: 0 running, 1 waiting."
    assert render_markdown(report).startswith("# calls\n")
