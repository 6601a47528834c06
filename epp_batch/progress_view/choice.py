"""Selects the view for an output stream."""

from __future__ import annotations

import sys
from typing import TextIO

from epp_batch.progress_view.plain import JsonLinesView, LineView
from epp_batch.progress_view.protocol import ProgressView
from epp_batch.spec import Run


def choose_view(
    stream: TextIO, json: bool = False, errors: TextIO | None = None, *, run: Run | None = None
) -> ProgressView:
    """JSON lines if `json`, a live table on a terminal, else plain lines. Failures are also written to `errors`.

    With `run`, a unit of one recording is shown under its output name.
    """
    names = {unit.name: unit.tasks[0].stem for unit in run.units if len(unit.tasks) == 1} if run is not None else {}
    failures = errors or sys.stderr
    if json:
        return JsonLinesView(stream, failures)
    if stream.isatty():
        from epp_batch.progress_view.live_table import LiveTable  # loads rich, which only terminals need

        return LiveTable(stream, failures, names)
    return LineView(stream, failures, names)
