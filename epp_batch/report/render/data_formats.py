"""The report for programs: JSON with everything in it, CSV with a line for each recording."""

from __future__ import annotations

import csv
import io

import msgspec

from epp_batch.report.model import Report

CSV_COLUMNS = (
    "stem", "source", "model", "unit", "status", "reused", "audio_seconds", "created", "finished", "wait", "start",
    "completion", "service", "attempts", "evictions", "places", "transcribe", "rtf", "language", "device_hours", "cost",
    "wer", "ttft", "summary",
)  # fmt: skip
"""Fields of RecordingRow."""


def render_json(report: Report) -> str:
    """The struct `Report` as JSON; its docstrings document the fields."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def render_csv(report: Report) -> str:
    """Times in seconds on the report's axis; an unknown value is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in report.rows:
        writer.writerow([_csv_value(getattr(row, name)) for name in CSV_COLUMNS])
    return file.getvalue()


def _csv_value(value: object) -> object:
    """Text that a spreadsheet would evaluate as a formula gets an apostrophe before it."""
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value
