"""The report as one HTML page that needs nothing else: to open, to send, to print."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from epp_batch.report import compare, words
from epp_batch.report.model import Report
from epp_batch.report.render import gantt, tables
from epp_batch.report.render.tables import ReportTable, TableCell

MAX_UNFOLDED_ROWS = 60
"""More recordings than this are folded away at first."""


def render_html(report: Report, other: Report | None = None) -> str:
    """`other` is the run to compare with; its chart has the same scale."""
    parts = [_render_header(report, other), *_render_comparison(report, other)]
    if other is None:
        parts += ["<h2>When and where</h2>", _render_chart(report, gantt.render_svg(report))]
    for table in (
        tables.build_model_table(report),
        tables.build_latency_table(report),
        tables.build_device_table(report),
    ):
        if table.rows:
            parts.append(_render_section(table))
    parts.append(_render_recordings(report))
    parts.append("<footer>Written by epp-batch report. Hold the pointer over a bar for its story.</footer>")
    page = Template((files("epp_batch.report.render") / "page.html").read_text(encoding="utf-8"))
    return page.substitute(title=escape(_page_title(report, other)), body="\n".join(parts))


def _page_title(report: Report, other: Report | None) -> str:
    return report.run if other is None else f"{report.run} against {other.run}"


def _render_header(report: Report, other: Report | None) -> str:
    against = "" if other is None else f" <b>{escape(compare.summarize_comparison(report, other))}</b>"
    tiles = "".join(
        f'<div class="tile"><small>{escape(name)}</small><b>{escape(value)}</b><small>{escape(about)}</small></div>'
        for name, value, about in tables.build_headlines(report)
    )
    return (
        f'<h1>{escape(_page_title(report, other))}</h1><p class="soft">{escape(words.describe_when(report))}</p>'
        f'<p class="verdict">{escape(words.summarize_report(report))}{against}</p>{_render_failures(report)}'
        f'<div class="tiles">{tiles}</div>'
    )


def _render_failures(report: Report) -> str:
    if not report.troubles:
        return ""
    lines = [f"<li>{escape(str(trouble))}</li>" for trouble in report.troubles]
    shown = "".join(lines[:5])
    rest = "".join(lines[5:])
    more = f"<details><summary>{len(lines) - 5} more</summary><ul>{rest}</ul></details>" if rest else ""
    return f'<div class="trouble"><b class="bad">What failed</b><ul>{shown}</ul>{more}</div>'


def _render_comparison(report: Report, other: Report | None) -> list[str]:
    """Figures, then both charts on one scale."""
    if other is None:
        return []
    length = max(report.length, other.length)
    models = list(dict.fromkeys(one.model for one in (*report.models, *other.models)))
    return [
        _render_section(compare.build_comparison_table(report, other)),
        f"<h2>{escape(report.run)}</h2>",
        _render_chart(report, gantt.render_svg(report, length=length, models=models)),
        f"<h2>{escape(other.run)}</h2><p>{escape(words.summarize_report(other))}</p>",
        _render_chart(other, gantt.render_svg(other, length=length, models=models, ident="other")),
    ]


def _render_chart(report: Report, drawn: str) -> str:
    if not report.spans:
        return '<p class="soft">Nothing has run yet.</p>'
    return f'<div class="wrap"><div class="chart">{drawn}</div></div>'


def _render_recordings(report: Report) -> str:
    table = tables.build_recording_table(report)
    if len(table.rows) <= MAX_UNFOLDED_ROWS:
        return _render_section(table, sortable=True)
    about = f"{words.format_count(len(table.rows), 'recording')}, one a line"
    return f"<h2>{table.title}</h2><details><summary>{about}</summary>{_render_table(table, True)}</details>"


def _render_section(table: ReportTable, *, sortable: bool = False) -> str:
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f"<h2>{escape(table.title)}</h2>{_render_table(table, sortable)}{note}"


def _render_table(table: ReportTable, sortable: bool) -> str:
    heads = "".join(
        f"<th{_class_attribute(table, index)}>{f'<button>{escape(head)}</button>' if sortable else escape(head)}</th>"
        for index, head in enumerate(table.headers)
    )
    rows = "".join(
        f"<tr>{''.join(_render_cell(table, index, cell, sortable) for index, cell in enumerate(cells))}</tr>"
        for cells in table.rows
    )
    return f'<div class="wrap"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _class_attribute(table: ReportTable, index: int, tone: str = "") -> str:
    kinds = " ".join(filter(None, ("n" if index >= table.text_columns else "", tone)))
    return f' class="{kinds}"' if kinds else ""


def _render_cell(table: ReportTable, index: int, cell: TableCell, sortable: bool) -> str:
    value = (
        f' data-v="{"" if cell.value is None else f"{cell.value:g}"}"'
        if sortable and index >= table.text_columns
        else ""
    )
    return f"<td{_class_attribute(table, index, cell.tone)}{value}>{escape(cell.text)}</td>"
