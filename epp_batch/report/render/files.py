"""A report for machines: JSON with everything in it, CSV with a line for each recording; and Markdown for people."""

from __future__ import annotations

import csv as library
import io

import msgspec

from epp_batch.report import compare, words
from epp_batch.report.model import Report
from epp_batch.report.render import tables
from epp_batch.report.render.tables import ReportTable

MAX_MARKDOWN_ROWS = 60
"""Recordings that Markdown lists; the rest is in the other forms."""

CSV_COLUMNS = (
    "stem", "source", "model", "unit", "status", "reused", "audio_seconds", "created", "finished", "wait", "start",
    "completion", "service", "attempts", "evictions", "places", "transcribe", "rtf", "language", "device_hours", "cost",
    "wer", "ttft", "summary",
)  # fmt: skip


def render_json(report: Report) -> str:
    """Of the struct; its docstrings tell units."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def render_csv(report: Report) -> str:
    """Seconds on the report's axis, nothing where nothing is known; a spreadsheet takes no cell for a formula."""
    file = io.StringIO()
    writer = library.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in report.rows:
        writer.writerow([_csv_value(getattr(row, name)) for name in CSV_COLUMNS])
    return file.getvalue()


def _csv_value(value: object) -> object:
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value


def render_markdown(report: Report, other: Report | None = None) -> str:
    """For an issue or a wiki; with `other`, compared with it."""
    parts = [
        f"# {_escape_markdown(report.run)}",
        words.describe_when(report) + ".",
        _escape_markdown(words.summarize_report(report)),
    ]
    if report.troubles:
        lines = [f"- {_escape_markdown(str(trouble))}" for trouble in report.troubles]
        parts += ["## What failed", "\n".join(lines)]
    if other is not None:
        parts += _markdown_table(compare.build_comparison_table(report, other))
    shown = [
        tables.build_latency_table(report),
        tables.build_model_table(report),
        tables.build_device_table(report),
        tables.build_recording_table(report),
    ]
    for table in shown:
        if table.rows:
            parts += _markdown_table(table)
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: ReportTable) -> list[str]:
    rule = ["---" if index < table.text_columns else "---:" for index in range(len(table.headers))]
    cells = [list(table.headers), *([cell.text for cell in row] for row in table.rows[:MAX_MARKDOWN_ROWS])]
    lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in cells]
    lines.insert(1, f"|{'|'.join(rule)}|")
    parts = [f"## {_escape_markdown(table.title)}", "\n".join(lines)]
    if len(table.rows) > MAX_MARKDOWN_ROWS:
        parts.append(f"{len(table.rows) - MAX_MARKDOWN_ROWS:,} more are in the CSV.")
    return [*parts, _escape_markdown(table.note)] if table.note else parts


def _escape_markdown(text: str) -> str:
    """Without what Markdown would take for its own."""
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
