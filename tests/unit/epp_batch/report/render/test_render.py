"""HTML, Markdown, CSV, JSON and the terminal say the same of a run."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from epp_batch import report as forms
from epp_batch.report import DevicePrices, Report, build_report, words
from epp_batch.report.render import tables, terminal
from tests.unit.epp_batch.report.given import attempt_events, build_result, build_run, build_task, run_with_eviction

HOSTILE = '=cmd|"<img src=x onerror=alert(1)>`*_'


class Page(HTMLParser):
    """Checks that elements nest, and keeps what a reader sees and what a browser would fetch."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.tags, self.fetched = [], [], [], []
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
            self.seen.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.seen).split())


def shown(report, other=None, width=160):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    terminal.print_report(report, console, other)
    return console.file.getvalue()


@pytest.fixture
def report():
    return build_report(*run_with_eviction(), {}, [], DevicePrices(gpu_hour=4.0))


@pytest.fixture
def failed():
    made = build_run(("a", build_task(HOSTILE, HOSTILE)), name=HOSTILE)
    return build_report(made, attempt_events("a", 0, 1, 2, 100, HOSTILE, "failed", detail=HOSTILE), {}, [])


def test_the_page_needs_nothing_from_outside(report):
    page = Page(forms.render_html(report))
    assert page.fetched == []
    assert "http" not in forms.render_html(report).replace("http://www.w3.org/2000/svg", "")
    assert {"svg", "table", "style"} <= set(page.tags)


def test_the_page_says_first_what_came_of_it(report):
    text = Page(forms.render_html(report)).text
    assert text.startswith("calls calls simulated, in virtual time 2 of 2 recordings transcribed in 6 min 40 s: ")
    assert text.index("makespan") < text.index("When and where") < text.index("Latencies")
    assert "1 eviction, 1 by preemption." in text


def test_failures_stand_above_everything(failed):
    text = Page(forms.render_html(failed)).text
    assert text.index("What failed") < text.index("makespan")


def test_names_of_files_cannot_break_out_of_the_page(failed):
    page = Page(forms.render_html(failed))
    assert "img" not in page.tags
    assert page.tags.count("script") == 1


def test_hundreds_of_recordings_are_folded_away():
    names = [f"u{number}" for number in range(200)]
    made = build_run(*((name, build_task(name)) for name in names))
    report = build_report(made, [one for name in names for one in attempt_events(name, 0, 1, 2, 10, "n")], {}, [])
    assert "details" in Page(forms.render_html(report)).tags
    assert "140 more are in the CSV." in forms.render_markdown(report)


def test_two_runs_on_one_page(report):
    made, events = run_with_eviction()
    slower = [msgspec.structs.replace(event, at=1000 + 2 * (event.at - 1000)) for event in events]
    baseline = build_report(msgspec.structs.replace(made, name="before"), slower, {}, [], DevicePrices(gpu_hour=4.0))
    page = Page(forms.render_html(report, baseline))
    assert page.tags.count("svg") == 2
    assert "Against before: makespan −50.0 % (13 min 20 s before) and mean completion −50.0 %" in page.text
    assert "| makespan | 13 min 20 s | 6 min 40 s | −50.0 % |" in forms.render_markdown(report, baseline)
    assert "−50.0 %" in shown(report, baseline)
    changes = {change.name: change for change in forms.compare_reports(report, baseline)}
    assert changes["makespan"].relative_change == pytest.approx(-0.5)
    assert changes["speed, × real time"].relative_change == pytest.approx(1.0)
    assert changes["cost"].relative_change == pytest.approx(-0.5)
    assert "failed" not in changes


def test_runs_of_other_work_say_so(report):
    other = build_report(
        build_run(("a", build_task("first")), ("c", build_task("third")), name="other"),
        attempt_events("a", 0, 1, 2, 9, "n"),
        {},
        [],
    )
    note = "Not the same work: 1 recording with the same model in both, 1 only in other, 1 only in calls."
    assert note in forms.render_markdown(report, other)
    assert note in shown(report, other)


def test_json_is_the_struct(report):
    assert msgspec.json.decode(forms.render_json(report), type=Report) == report


def test_csv_has_a_line_for_each_recording(report):
    lines = list(csv.DictReader(io.StringIO(forms.render_csv(report))))
    assert [line["stem"] for line in lines] == ["first", "second"]
    assert float(lines[1]["completion"]) == 400
    assert lines[1]["evictions"] == "1"
    assert lines[0]["wer"] == ""


def test_spreadsheets_get_no_formulas(failed):
    (line,) = csv.DictReader(io.StringIO(forms.render_csv(failed)))
    assert line["stem"] == f"'{HOSTILE}"


def test_markdown_tables_keep_their_columns(failed):
    rows = [line for line in forms.render_markdown(failed).splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in rows]
    heads = [count for line, count in zip(rows, bars, strict=True) if set(line) <= set("|-:")]
    assert set(bars) == set(heads)
    assert not re.search(r"(?<!\\)[<`*_]", "\n".join(rows))


def test_the_terminal_draws_devices_and_the_curve(report):
    lines = shown(report).splitlines()
    (row,) = [line for line in lines if line.startswith("gpu-0")]
    assert "×" in row  # the eviction
    assert "█" in row
    assert any(line.startswith("running") and line.endswith(" 1") for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_tables_fit_the_terminal_or_lose_columns(report, width):
    for line in shown(report, width=width).split("latency", 1)[1].splitlines():
        assert len(line) <= width
        assert "…" not in line or width < 60


def test_a_failure_stays_one_line_on_narrow_terminals(failed):
    assert f"  {failed.troubles[0]}" in shown(failed, width=40).splitlines()


def test_columns_of_which_nothing_is_known_are_left_out(report):
    assert "RTF" not in tables.build_model_table(report).headers
    made, events = run_with_eviction()
    told = build_report(made, events, {"first": build_result(made.list_tasks()[0])}, [])
    assert "RTF" in tables.build_model_table(told).headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0, "0.00 s"), (0.424, "0.42 s"), (9.996, "10.0 s"), (99.94, "99.9 s"), (99.96, "1 min 40 s"),
        (3_599.6, "1 h 00 min"), (7_384, "2 h 03 min"), (200_000, "2 d 7 h"), (-3, "-3.00 s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert words.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0.00 EUR"), (0.012, "0.012 EUR"), (1e-7, "< 0.0001 EUR"), (1234.5, "1,234.50 EUR")],
)  # fmt: skip
def test_money(value, text):
    assert words.format_money(value, "EUR") == text


def test_a_run_under_way_says_so():
    made = build_run(("a", build_task("x")), ("b", build_task("y")))
    report = build_report(made, attempt_events("a", 0, 1, 2, 10, "n")[:3], {}, [])
    assert words.summarize_report(report) == "0 of 2 recordings transcribed in 2.00 s. Not over: 1 running, 1 waiting."
    Page(forms.render_html(report))


def test_a_run_that_was_admitted_and_never_ran_has_all_forms():
    report = build_report(
        build_run(("a", build_task("x"))),
        attempt_events("a", 0, 1, 2, 10, "n")[:2] + attempt_events("a", 0, 1, 2, 9, "n")[3:],
        {},
        [],
    )
    assert report.concurrency.peak == 0
    assert "never ran" in forms.render_html(report)
    assert shown(report)


def test_a_run_that_has_not_begun_has_all_forms():
    report = build_report(build_run(("a", build_task("x"))), [], {}, [])
    assert "Nothing has run yet." in Page(forms.render_html(report)).text
    assert shown(report).splitlines()[1] == "0 of 1 recording transcribed. Not over: 0 running, 1 waiting."
    assert forms.render_markdown(report).startswith("# calls\n")
