"""The report as one HTML page that loads nothing: to open, to send, to print."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from epp_batch.report.model import Report
from epp_batch.report.render import gantt, tables, text
from epp_batch.report.render.comparison import build_comparison_table, summarize_comparison
from epp_batch.report.render.tables import ReportTable, TableCell

MAX_UNFOLDED_ROWS = 60
"""Recordings beyond which their table is folded."""
MAX_UNFOLDED_FAILURES = 5


def render_html(report: Report, other: Report | None = None) -> str:
    """The page of a report; with `other`, compared with that run, both charts on one scale."""
    parts = [_render_header(report, other), *_render_comparison(report, other)]
    if other is None:
        parts += ["<h2>Timeline</h2>", _render_chart(report, gantt.render_svg(report))]
    for table in (
        tables.build_model_table(report),
        tables.build_latency_table(report),
        tables.build_device_table(report),
    ):
        if table.rows:
            parts.append(_render_section(table))
    parts.append(_render_recordings(report))
    parts.append("<footer>Written by epp-batch report. Hover over a bar for the details of its attempt.</footer>")
    page = Template((files("epp_batch.report.render") / "page.html").read_text(encoding="utf-8"))
    return page.substitute(title=escape(_page_title(report, other)), body="\n".join(parts))


def _page_title(report: Report, other: Report | None) -> str:
    return report.run if other is None else f"{report.run} against {other.run}"


def _render_header(report: Report, other: Report | None) -> str:
    """Title, summary, failures and headline figures."""
    comparison = "" if other is None else f" <b>{escape(summarize_comparison(report, other))}</b>"
    tiles = "".join(
        f'<div class="tile"><small>{escape(headline.name)}</small><b>{escape(headline.value)}</b>'
        f"<small>{escape(headline.context)}</small></div>"
        for headline in tables.build_headlines(report)
    )
    return (
        f'<h1>{escape(_page_title(report, other))}</h1><p class="soft">{escape(text.describe_when(report))}</p>'
        f'<p class="verdict">{escape(text.summarize_report(report))}{comparison}</p>{_render_failures(report)}'
        f'<div class="tiles">{tiles}</div>'
    )


def _render_failures(report: Report) -> str:
    if not report.troubles:
        return ""
    items = [f"<li>{escape(str(failure))}</li>" for failure in report.troubles]
    shown = "".join(items[:MAX_UNFOLDED_FAILURES])
    folded = "".join(items[MAX_UNFOLDED_FAILURES:])
    if folded:
        summary = f"{len(items) - MAX_UNFOLDED_FAILURES} more"
        folded = f"<details><summary>{summary}</summary><ul>{folded}</ul></details>"
    return f'<div class="trouble"><b class="bad">Failures</b><ul>{shown}</ul>{folded}</div>'


def _render_comparison(report: Report, other: Report | None) -> list[str]:
    """The table of figures, then both charts on one scale."""
    if other is None:
        return []
    length = max(report.length, other.length)
    models = list(dict.fromkeys(row.model for row in (*report.models, *other.models)))
    return [
        _render_section(build_comparison_table(report, other)),
        f"<h2>{escape(report.run)}</h2>",
        _render_chart(report, gantt.render_svg(report, length=length, models=models)),
        f"<h2>{escape(other.run)}</h2><p>{escape(text.summarize_report(other))}</p>",
        _render_chart(other, gantt.render_svg(other, length=length, models=models, id_prefix="other")),
    ]


def _render_chart(report: Report, svg: str) -> str:
    if not report.spans:
        return '<p class="soft">Nothing has run yet.</p>'
    return f'<div class="wrap"><div class="chart">{svg}</div></div>'


def _render_recordings(report: Report) -> str:
    table = tables.build_recording_table(report)
    if len(table.rows) <= MAX_UNFOLDED_ROWS:
        return _render_section(table, sortable=True)
    summary = f"{text.format_count(len(table.rows), 'recording')}, one a line"
    return f"<h2>{table.title}</h2><details><summary>{summary}</summary>{_render_table(table, True)}</details>"


def _render_section(table: ReportTable, *, sortable: bool = False) -> str:
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<h2>{escape(table.title)}</h2>{_render_table(table, sortable)}{note}"


def _render_table(table: ReportTable, sortable: bool) -> str:
    """A table; the script of page.html sorts it by a click on a header if it is `sortable`."""
    headers = "".join(
        f"<th{_class_attribute(table, index)}>{_render_column_header(header, sortable)}</th>"
        for index, header in enumerate(table.headers)
    )
    rows = "".join(
        f"<tr>{''.join(_render_cell(table, index, cell, sortable) for index, cell in enumerate(cells))}</tr>"
        for cells in table.rows
    )
    return f'<div class="wrap"><table><thead><tr>{headers}</tr></thead><tbody>{rows}</tbody></table></div>'


def _render_column_header(header: str, sortable: bool) -> str:
    return f"<button>{escape(header)}</button>" if sortable else escape(header)


def _class_attribute(table: ReportTable, index: int, tone: str = "") -> str:
    """`n` for a column of numbers, and the tone."""
    classes = " ".join(filter(None, ("n" if index >= table.text_columns else "", tone)))
    return f' class="{classes}"' if classes else ""


def _render_cell(table: ReportTable, index: int, cell: TableCell, sortable: bool) -> str:
    """A cell; `data-v` is the number to sort by."""
    value = ""
    if sortable and index >= table.text_columns:
        value = f' data-v="{"" if cell.value is None else f"{cell.value:g}"}"'
    return f"<td{_class_attribute(table, index, cell.tone)}{value}>{escape(cell.text)}</td>"
