"""A report for machines: JSON with everything in it, CSV with a line for each recording; and Markdown for people."""

from __future__ import annotations

import csv as library
import io

import msgspec

from epp_batch.report import compare, words
from epp_batch.report.model import Report
from epp_batch.report.render import tables
from epp_batch.report.render.tables import Table

LONG = 60
"""Recordings that Markdown lists; the rest is in the other forms."""

COLUMNS = (
    "stem", "source", "model", "unit", "status", "reused", "audio_seconds", "created", "finished", "wait", "start",
    "completion", "service", "attempts", "evictions", "places", "transcribe", "rtf", "language", "device_hours", "cost",
    "wer", "ttft", "summary",
)  # fmt: skip


def json(report: Report) -> str:
    """Of the struct; its docstrings tell units."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def csv(report: Report) -> str:
    """Seconds on the report's axis, nothing where nothing is known; a spreadsheet takes no cell for a formula."""
    file = io.StringIO()
    writer = library.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in report.rows:
        writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    return file.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value


def markdown(report: Report, other: Report | None = None) -> str:
    """For an issue or a wiki; with `other`, compared with it."""
    parts = [f"# {_text(report.run)}", words.when(report) + ".", _text(words.verdict(report))]
    if report.troubles:
        lines = [f"- {_text(str(trouble))}" for trouble in report.troubles]
        parts += ["## What failed", "\n".join(lines)]
    if other is not None:
        parts += _table(compare.table(report, other))
    shown = [tables.latencies(report), tables.models(report), tables.uses(report), tables.recordings(report)]
    for table in shown:
        if table.rows:
            parts += _table(table)
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> list[str]:
    rule = ["---" if index < table.left else "---:" for index in range(len(table.heads))]
    cells = [list(table.heads), *([cell.text for cell in row] for row in table.rows[:LONG])]
    lines = [f"| {' | '.join(map(_text, row))} |" for row in cells]
    lines.insert(1, f"|{'|'.join(rule)}|")
    parts = [f"## {_text(table.title)}", "\n".join(lines)]
    if len(table.rows) > LONG:
        parts.append(f"{len(table.rows) - LONG:,} more are in the CSV.")
    return [*parts, _text(table.note)] if table.note else parts


def _text(text: str) -> str:
    """Without what Markdown would take for its own."""
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
