"""`epp-batch report`: formats, files, comparison, prices."""

from __future__ import annotations

import json

import msgspec
import pytest

from epp_batch.__main__ import main
from epp_batch.cli import report as command
from epp_batch.spec import Placement
from tests.unit.epp_batch.report.builders import (
    CLUSTER,
    attempt_events,
    build_event,
    build_run,
    build_task,
    fill_folder,
    folder_with_failures,
    run_with_eviction,
)


@pytest.fixture
def folder(tmp_path):
    return folder_with_failures(tmp_path)


def test_a_folder_without_a_run_is_an_input_error(tmp_path):
    assert main(["report", str(tmp_path)]) == 2


def test_report_prints_and_writes_the_page(folder, capsys):
    assert main(["report", str(folder.root), "--price", "4"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("calls  ")
    assert f"wrote {folder.root / 'report.html'}" in output
    assert (folder.root / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["json", "csv", "markdown"])
def test_format_writes_only_to_standard_output(folder, capsys, name):
    assert main(["report", str(folder.root), "--format", name, "--no-wer"]) == 0
    output = capsys.readouterr().out
    assert {"json": "{\n", "csv": "stem,", "markdown": "# calls"}[name] == output[: len("# calls")][
        : {"json": 2, "csv": 5}.get(name, 7)
    ]
    assert not (folder.root / "report.html").exists()


def test_write_chooses_the_format_by_suffix(folder, tmp_path, capsys):
    names = ["r.html", "r.svg", "r.md", "r.json", "r.csv"]
    flags = [part for name in names for part in ("-o", str(tmp_path / "new" / name))]
    assert main(["report", str(folder.root), *flags]) == 0
    starts = {name: (tmp_path / "new" / name).read_text()[:12] for name in names}
    assert starts["r.svg"].startswith("<svg")
    assert starts["r.csv"].startswith("stem,")
    assert json.loads((tmp_path / "new" / "r.json").read_text())["run"] == "calls"
    capsys.readouterr()
    assert main(["report", str(folder.root), "-o", str(tmp_path / "r.pdf")]) == 2
    assert "r.pdf: no report format has this suffix; use one of .html" in capsys.readouterr().err


def test_against_compares_with_another_folder(folder, tmp_path, capsys):
    other = fill_folder(tmp_path / "before", *run_with_eviction())
    assert main(["report", str(folder.root), "--against", str(other.root)]) == 0
    assert "Against calls: makespan −75.0 % (6 min 40 s before)" in capsys.readouterr().out


def test_against_compares_with_planned_events(folder, tmp_path, capsys):
    planned = fill_folder(tmp_path / "plan", build_run(), [
        *attempt_events("a", 0.0, 1.0, 1.0, 81.0, "n/gpu-0"), *attempt_events("b", 0.0, 1.0, 1.0, 51.0, "n/gpu-1")
    ]).events_file  # fmt: skip
    assert main(["report", str(folder.root), "--against", str(planned)]) == 0
    assert "Against calls as planned: makespan +23.5 % (81.0 s before)" in capsys.readouterr().out
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["report", str(folder.root), "--against", str(tmp_path / "empty.jsonl")]) == 2
    assert "no events of run calls; write them with epp-batch plan --run" in capsys.readouterr().err


@pytest.mark.parametrize("price", ["x", "-1", "medium=", "nan", "inf", "=", "a=b"])
def test_invalid_prices_are_rejected(folder, capsys, price):
    assert main(["report", str(folder.root), f"--price={price}"]) == 2
    assert "give an amount for an hour, e.g. 2.5 or large-v3=4.1" in capsys.readouterr().err


def test_prices_are_parsed():
    prices = command.parse_prices(["2.5", "worker=0.1", "large-v3=4"], "EUR")
    assert (prices.gpu_hour, prices.worker_hour, prices.gpu_hour_by_model, prices.currency) == (
        2.5,
        0.1,
        {"large-v3": 4.0},
        "EUR",
    )


def test_gpu_shares_by_model_come_from_placements():
    placements = {
        "medium": Placement(accelerator="mig:1g.5gb"), "large": Placement(accelerator="gpu:2"),
        "tiny": Placement(accelerator="cpu"),
    }  # fmt: skip
    cluster = msgspec.structs.replace(CLUSTER, placements=placements)
    run = build_run(
        ("a", build_task("x")), ("b", build_task("y", "large")), ("c", build_task("z", "tiny")), cluster=cluster
    )
    assert command.gpu_shares(run) == {"medium": 0.125, "large": 2.0, "tiny": 0.0}
    assert command.gpu_shares(build_run(("a", build_task("x")), cluster=None)) == {}


def test_a_run_with_nothing_but_events_is_reported(tmp_path, capsys):
    folder = fill_folder(tmp_path, build_run(("a", build_task("x"))), [build_event(5.0, "a", "created")])
    assert main(["report", str(folder.root)]) == 0
    assert "Not finished: 0 running, 1 waiting." in capsys.readouterr().out
