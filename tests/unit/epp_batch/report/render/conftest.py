"""A report of two units, one with hostile file names, and readers of rendered pages."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from epp_batch.report import DevicePrices, build_report
from epp_batch.report.render import terminal
from tests.unit.epp_batch.report.builders import attempt_events, build_run, build_task, run_with_eviction

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
