"""Renders a report for people and programs: HTML, SVG, Markdown, JSON, CSV; `terminal` prints it.

In: `report.model` and, for a comparison, `report.compare`. Out: text. `tables`, `comparison` and `text` produce what
all formats share: cells, sentences, formatted figures. `gantt` draws the chart; it shares `layout` with `terminal`.
Nothing here computes a figure, keeps state or writes a file.
"""

from epp_batch.report.render.data_formats import render_csv, render_json
from epp_batch.report.render.gantt import render_svg
from epp_batch.report.render.html import render_html
from epp_batch.report.render.markdown import render_markdown

__all__ = ["render_csv", "render_html", "render_json", "render_markdown", "render_svg"]
