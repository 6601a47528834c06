"""The report as an HTML page: complete in itself, escaped, in the order a reader wants."""

from __future__ import annotations

from epp_batch.report import build_report
from epp_batch.report.render import render_html, render_markdown
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task
from tests.unit.epp_batch.report.render.conftest import Page, print_to_text


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
