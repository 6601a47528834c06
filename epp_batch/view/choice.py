"""Which view fits where the output goes."""

from __future__ import annotations

import sys
from typing import TextIO

from epp_batch.view.plain import Json, Lines
from epp_batch.view.protocol import View


def choose(stream: TextIO, json: bool = False, errors: TextIO | None = None) -> View:
    """JSON lines when asked for, a live table on a terminal, plain lines elsewhere. Failures also go to `errors`."""
    failures = errors or sys.stderr
    if json:
        return Json(stream, failures)
    if stream.isatty():
        from epp_batch.view.table import LiveTable

        return LiveTable(stream, failures)
    return Lines(stream, failures)
