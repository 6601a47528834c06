"""What a run came to: makespan, latencies, speed, device hours, cost, word errors, a chart; alone or against another.

`build` measures a run, its events and results, whether they are of a cluster, of this machine or of the planner;
`folder_report` reads all that from an output folder. The forms: `json`, `csv`, `markdown`, `html`, `svg`, and
`terminal.show`.
"""

from epp_batch.report.assemble import build
from epp_batch.report.compare import changes
from epp_batch.report.cost import Prices
from epp_batch.report.model import Report, Words
from epp_batch.report.read import folder_report, planned_report
from epp_batch.report.render.files import csv, json, markdown
from epp_batch.report.render.gantt import svg
from epp_batch.report.render.html import html

__all__ = [
    "Prices", "Report", "Words", "build", "changes", "csv", "folder_report", "html", "json", "markdown",
    "planned_report", "svg",
]  # fmt: skip
