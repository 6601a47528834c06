"""What a run came to: makespan, latencies, speed, device hours, cost, word errors, a chart; alone or against another.

`build` measures a run, its events and results, whether they are of a cluster, of this machine or of the planner;
`folder_report` reads all that from an output folder. The forms: `json`, `csv`, `markdown`, `html`, `svg`, and
`terminal.show`.
"""

from epp_batch.report.assemble import build_report
from epp_batch.report.compare import compare_reports
from epp_batch.report.cost import DevicePrices
from epp_batch.report.model import Report, WordErrors
from epp_batch.report.read import build_folder_report, build_planned_report
from epp_batch.report.render.files import render_csv, render_json, render_markdown
from epp_batch.report.render.gantt import render_svg
from epp_batch.report.render.html import render_html

__all__ = [
    "DevicePrices", "Report", "WordErrors", "build_folder_report", "build_planned_report", "build_report",
    "compare_reports", "render_csv", "render_html", "render_json", "render_markdown", "render_svg",
]  # fmt: skip
