"""The view for an output stream, and the names it shows."""

from __future__ import annotations

import io

from epp_batch.progress_view import choose_view
from epp_batch.progress_view.live_table import LiveTable
from epp_batch.progress_view.plain import JsonLinesView, LineView
from epp_batch.spec import Recording, Run, Task, TranscriptionOptions, Unit
from epp_batch.timeline import TimelineEvent


def test_the_view_is_chosen_by_stream_and_flag():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    live = choose_view(Terminal(), errors=io.StringIO())
    live.close()
    assert isinstance(live, LiveTable)
    assert isinstance(choose_view(io.StringIO()), LineView)
    assert isinstance(choose_view(Terminal(), json=True), JsonLinesView)


def test_a_unit_of_one_recording_is_shown_under_its_output_name():
    task = Task(recording=Recording(source="s", stems=("calls/a",)), model="tiny")
    run = Run(name="r", output="/o", options=TranscriptionOptions(), units=(Unit(name="r-1", tasks=(task,)),))
    out = io.StringIO()
    choose_view(out, run=run).on_event(TimelineEvent(at=1.0, unit="r-1", kind="finished"))
    assert out.getvalue() == "calls/a: finished\n"
