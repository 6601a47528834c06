"""Reports as JSON and CSV."""

from __future__ import annotations

import csv
import io

import msgspec

from epp_batch.report import Report
from epp_batch.report.render import render_csv, render_json
from tests.unit.epp_batch.report.render.conftest import HOSTILE


def test_json_decodes_to_the_report(report):
    assert msgspec.json.decode(render_json(report), type=Report) == report


def test_csv_has_a_line_for_each_recording(report):
    lines = list(csv.DictReader(io.StringIO(render_csv(report))))
    assert [line["stem"] for line in lines] == ["first", "second"]
    assert float(lines[1]["completion"]) == 400
    assert lines[1]["evictions"] == "1"
    assert lines[0]["wer"] == ""


def test_csv_has_no_formulas(failed):
    (line,) = csv.DictReader(io.StringIO(render_csv(failed)))
    assert line["stem"] == f"'{HOSTILE}"
