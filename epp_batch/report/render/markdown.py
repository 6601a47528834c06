"""The report as Markdown, for an issue or a wiki."""

from __future__ import annotations

from epp_batch.report.model import Report
from epp_batch.report.render import tables, text
from epp_batch.report.render.comparison import build_comparison_table
from epp_batch.report.render.tables import ReportTable

MAX_MARKDOWN_ROWS = 60


def render_markdown(report: Report, other: Report | None = None) -> str:
    """The document of a report; with `other`, compared with that run."""
    parts = [
        f"# {_escape_markdown(report.run)}",
        text.describe_when(report) + ".",
        _escape_markdown(text.summarize_report(report)),
    ]
    if report.troubles:
        items = [f"- {_escape_markdown(str(failure))}" for failure in report.troubles]
        parts += ["## Failures", "\n".join(items)]
    if other is not None:
        parts += _markdown_table(build_comparison_table(report, other))
    for table in (
        tables.build_latency_table(report),
        tables.build_model_table(report),
        tables.build_device_table(report),
        tables.build_recording_table(report),
    ):
        if table.rows:
            parts += _markdown_table(table)
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: ReportTable) -> list[str]:
    """A section with the first MAX_MARKDOWN_ROWS rows."""
    alignment = ["---" if index < table.text_columns else "---:" for index in range(len(table.headers))]
    rows = [list(table.headers), *([cell.text for cell in row] for row in table.rows[:MAX_MARKDOWN_ROWS])]
    lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in rows]
    lines.insert(1, f"|{'|'.join(alignment)}|")
    parts = [f"## {_escape_markdown(table.title)}", "\n".join(lines)]
    if len(table.rows) > MAX_MARKDOWN_ROWS:
        parts.append(f"{len(table.rows) - MAX_MARKDOWN_ROWS:,} more are in the CSV.")
    return [*parts, _escape_markdown(table.note)] if table.note else parts


def _escape_markdown(text: str) -> str:
    """Text on one line, with Markdown's special characters escaped."""
    for character in "\\|<>*_`[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
