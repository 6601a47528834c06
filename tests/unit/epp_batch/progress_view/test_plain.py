"""Views of plain lines and of JSON lines."""

from __future__ import annotations

import io
import json

import msgspec

from epp_batch.progress_view import RunStatus
from epp_batch.progress_view.plain import JsonLinesView, LineView
from epp_batch.timeline import TimelineEvent
from tests.unit.epp_batch.progress_view.conftest import FAILURE, LINE, make_status


def test_the_status_line_is_printed_every_ten_seconds_and_at_the_end():
    out, errors = io.StringIO(), io.StringIO()
    view = LineView(out, errors, {"r-1": "calls/a"})
    view.on_status(make_status(at=1000.0))
    view.on_status(make_status(at=1005.0, phases={"done": 2}))
    view.on_status(make_status(at=1011.0, phases={"done": 2}, troubles=("waits in its queue: no quota (1 Job)",)))
    view.on_event(TimelineEvent(at=1.0, unit="r-1", kind="evicted", detail="Preempted: InClusterQueue"))
    view.on_event(TimelineEvent(at=1.0, unit="r-1", kind="reserved"))
    view.on_failure(FAILURE)
    view.on_status(make_status(at=1012.0, phases={"done": 4}))
    view.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "waits in its queue: no quota (2 Jobs)"
    assert [line.split(",")[0] for line in lines[1:3]] == ["1 of 4 done", "2 of 4 done"]
    assert lines[3] == "calls/a: evicted (Preempted: InClusterQueue)"
    assert lines[4].startswith("4 of 4 done")
    assert len(lines) == 5
    assert errors.getvalue() == LINE + "\n"


def test_json_lines_can_be_decoded():
    out, errors = io.StringIO(), io.StringIO()
    view = JsonLinesView(out, errors)
    event = TimelineEvent(at=1.0, unit="r-1", kind="running", place="n1")
    view.on_event(event)
    view.on_progress("r-1", 30.0)
    view.on_failure(FAILURE)
    view.on_status(make_status())
    view.on_status(make_status(at=1001.0))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [next(iter(line)) for line in lines] == ["event", "progress", "failure", "state"]
    assert msgspec.convert(lines[0]["event"], TimelineEvent) == event
    assert msgspec.convert(lines[3]["state"], RunStatus) == make_status()
    assert errors.getvalue() == LINE + "\n"


def test_a_closed_stream_raises_no_error():
    out = io.StringIO()
    out.close()
    LineView(out, out).on_failure(FAILURE)
