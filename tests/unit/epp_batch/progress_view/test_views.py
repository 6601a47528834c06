"""Views: plain lines, JSON lines, the live table, and their texts."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view import RunStatus, choose_view, words
from epp_batch.progress_view.live_table import LiveTable, render_status
from epp_batch.progress_view.plain import JsonLinesView, LineView
from epp_batch.progress_view.run_tracker import RunningUnit
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.timeline import TimelineEvent

FAILURE = TaskFailure(
    key="k",
    source="a.wav",
    stage="pod",
    kind="killed",
    message="exit code 137",
    remedy="raise --memory",
    permanent=False,
)
LINE = "a.wav: pod: exit code 137; raise --memory"


def make_status(**changes: object) -> RunStatus:
    status = RunStatus(
        run="r",
        at=1000.0,
        recordings=4,
        phases={"done": 1, "running": 1, "queued": 2},
        preempted=1,
        evicted=2,
        retried=0,
        audio_total=400.0,
        audio_done=130.0,
        unknown_lengths=0,
        elapsed=10.0,
        speed=13.0,
        eta=20.8,
        position=3,
        running=(RunningUnit(unit="r-1", stem="calls/a", place="n1", since=940.0, audio_done=30.0, audio_total=100.0),),
        troubles=("waits in its queue: no quota (2 Jobs)",),
    )
    return msgspec.structs.replace(status, **changes)


def test_status_on_one_line():
    assert words.format_status(make_status()) == (
        "1 of 4 done, 1 running, 2 queued, 1 preempted and 1 evicted; 2 min 10 s of 6 min 40 s of audio, "
        "13.0x real time, 21 s left, next one is number 3 in its queue"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (425, "7 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7980, "2 h 13 min"),
    ],
)
def test_format_of_durations(seconds: float, text: str):
    assert words.format_duration(seconds) == text


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


def test_the_live_table():
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render_status(make_status()))
    heads, counts, *rest = console.export_text().splitlines()
    assert heads.split() == ["queued", "admitted", "running", "done", "failed", "preempted", "evicted", "retried"]
    assert counts.split() == ["2", "0", "1", "1", "0", "1", "2", "0"]
    text = "\n".join(" ".join(line.split()) for line in rest)
    assert "calls/a n1 1 min 00 s 30 s of 1 min 40 s" in text
    assert "waits in its queue" in text


def test_the_view_is_chosen_by_stream_and_flag():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    live = choose_view(Terminal(), errors=io.StringIO())
    live.close()
    assert isinstance(live, LiveTable)
    assert isinstance(choose_view(io.StringIO()), LineView)
    assert isinstance(choose_view(Terminal(), json=True), JsonLinesView)


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


def test_a_unit_of_one_recording_is_shown_under_its_output_name():
    task = Task(recording=Recording(source="s", stems=("calls/a",)), model="tiny")
    run = Run(name="r", output="/o", options=TranscriptionOptions(), units=(Unit(name="r-1", tasks=(task,)),))
    out = io.StringIO()
    choose_view(out, run=run).on_event(TimelineEvent(at=1.0, unit="r-1", kind="finished"))
    assert out.getvalue() == "calls/a: finished\n"
