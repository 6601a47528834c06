"""The table that is redrawn on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from epp_batch.progress_view import choose_view
from epp_batch.progress_view.live_table import render_status
from tests.unit.epp_batch.progress_view.conftest import FAILURE, LINE, make_status


def test_the_live_table():
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render_status(make_status()))
    heads, counts, *rest = console.export_text().splitlines()
    assert heads.split() == ["queued", "admitted", "running", "done", "failed", "preempted", "evicted", "retried"]
    assert counts.split() == ["2", "0", "1", "1", "0", "1", "2", "0"]
    text = "\n".join(" ".join(line.split()) for line in rest)
    assert "calls/a n1 1 min 00 s 30 s of 1 min 40 s" in text
    assert "waits in its queue" in text


def test_the_live_table_writes_failures_to_redirected_standard_error():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, errors = Terminal(), io.StringIO()
    view = choose_view(out, errors=errors)
    view.on_status(make_status())
    view.on_failure(FAILURE)
    view.close()
    assert errors.getvalue() == LINE + "\n"
    assert LINE not in out.getvalue()
