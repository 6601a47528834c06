"""Measures a run: makespan, latencies, speed, device hours, cost, word errors; alone or compared with another run.

In: a run (`epp_batch.spec`), its events and its results, of a cluster, of this machine or of the planner. Out:
`Report`, plain data whose JSON is the machine-readable form. `read` loads all inputs from an output folder; `assemble`
builds the report, from `unit_history` (what happened to each unit) and `run_timeline` (on a common axis); `compare`
compares two.

Nothing here keeps state, and nothing but `read` and `wer` touches files. HTML, SVG, Markdown, CSV and terminal output
are made by `report.render`, which computes no figures; nothing here imports it.
"""

from epp_batch.report.assemble import build_report
from epp_batch.report.compare import compare_reports
from epp_batch.report.cost import DevicePrices
from epp_batch.report.model import Report, WordErrors
from epp_batch.report.read import build_folder_report, build_planned_report

__all__ = [
    "DevicePrices", "Report", "WordErrors", "build_folder_report", "build_planned_report", "build_report",
    "compare_reports",
]  # fmt: skip
