"""A report from what lies in a folder, and the command."""

from __future__ import annotations

import json

import msgspec
import pytest

from epp_batch.__main__ import main
from epp_batch.cli import report as command
from epp_batch.errors import FolderError
from epp_batch.output_folder import OutputFolder, TaskFailure, save_struct, write_atomically
from epp_batch.report import build_folder_report
from epp_batch.spec import Placement
from epp_batch.timeline import Journal
from tests.unit.epp_batch.report.given import (
    CLUSTER,
    attempt_events,
    build_event,
    build_result,
    build_run,
    build_task,
    run_with_eviction,
)


@pytest.fixture
def folder(tmp_path):
    """A finished task with a reference, one that failed, and a source that could not be read."""
    made = tmp_path / "out"
    (tmp_path / "reference.txt").write_text("Good morning everybody.")
    good, bad = build_task("good", reference=str(tmp_path / "reference.txt")), build_task("bad")
    folder = fill(made, build_run(("a", good), ("b", bad), created=1000.0), [
        *attempt_events("a", 1000, 1001, 1002, 1100, "n/gpu-0"),
        *attempt_events("b", 1000, 1001, 1002, 1050, "n/gpu-1", "failed"),
    ])  # fmt: skip
    write_atomically(folder.path("good", "txt"), b"good morning to everybody\n")
    save_struct(folder.path("good", "done.json"), build_result(good, files={"txt": 26}))
    fail(folder, "bad", bad.key(folder.load_run().options), at=1050.0)
    fail(folder, "deep/unread", "", source="unread.mp3", at=1000.0)
    return folder


def fill(root, made, events):
    folder = OutputFolder(root)
    folder.save_run(made)
    journal = Journal(folder.events_file)
    for one in events:
        journal.append(one)
    journal.close()
    return folder


def fail(folder, stem, key, **other):
    known = {"source": f"{stem}.mp3", "stage": "decode", "kind": "corrupt", "message": "it breaks off", "remedy": "r"}
    save_struct(folder.path(stem, "failed.json"), TaskFailure(key=key, permanent=True, **(known | other)))


def test_everything_in_the_folder_is_read(folder):
    report, missing = build_folder_report(folder.root)
    assert missing == []
    assert report.wer == pytest.approx(1 / 3)
    assert report.counts == {"done": 1, "failed": 2, "cancelled": 0, "running": 0, "waiting": 0}
    assert {str(trouble) for trouble in report.troubles} == {
        "bad.mp3: decode: it breaks off; r", "unread.mp3: decode: it breaks off; r"
    }  # fmt: skip


def test_failures_of_older_work_are_not_this_runs(folder):
    fail(folder, "bad", "0123456789ab")
    fail(folder, "older", "", at=999.0)
    report, _ = build_folder_report(folder.root)
    assert [trouble.source for trouble in report.troubles] == ["unread.mp3", "bad.mp3"]
    assert report.troubles[1].message == "failed; nobody told why"


def test_a_torn_journal_and_sidecar_are_read_as_far_as_they_go(folder):
    with folder.events_file.open("ab") as file:
        file.write(b'{"at":12')
    folder.path("bad", "failed.json").write_bytes(b"{")
    report, _ = build_folder_report(folder.root)
    assert report.counts["done"] == 1


def test_references_can_be_left_alone(folder):
    assert build_folder_report(folder.root, references=False)[0].wer is None


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FolderError, match="no run here; submit or transcribe"):
        build_folder_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 2


def test_the_command_prints_and_leaves_a_page(folder, capsys):
    assert main(["report", str(folder.root), "--price", "4"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("calls  ")
    assert f"wrote {folder.root / 'report.html'}" in told
    assert (folder.root / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["json", "csv", "markdown"])
def test_formats_alone_on_standard_output(folder, capsys, name):
    assert main(["report", str(folder.root), "--format", name, "--no-wer"]) == 0
    told = capsys.readouterr().out
    assert {"json": "{\n", "csv": "stem,", "markdown": "# calls"}[name] == told[: len("# calls")][
        : {"json": 2, "csv": 5}.get(name, 7)
    ]
    assert not (folder.root / "report.html").exists()


def test_files_by_their_suffix(folder, tmp_path, capsys):
    names = ["r.html", "r.svg", "r.md", "r.json", "r.csv"]
    given = [part for name in names for part in ("-o", str(tmp_path / "new" / name))]
    assert main(["report", str(folder.root), *given]) == 0
    first = {name: (tmp_path / "new" / name).read_text()[:12] for name in names}
    assert first["r.svg"].startswith("<svg")
    assert first["r.csv"].startswith("stem,")
    assert json.loads((tmp_path / "new" / "r.json").read_text())["run"] == "calls"
    capsys.readouterr()
    assert main(["report", str(folder.root), "-o", str(tmp_path / "r.pdf")]) == 2
    assert "r.pdf: a report has no such form; end it with .html" in capsys.readouterr().err


def test_the_command_compares(folder, tmp_path, capsys):
    other = fill(tmp_path / "before", *run_with_eviction())
    assert main(["report", str(folder.root), "--against", str(other.root)]) == 0
    assert "Against calls: makespan −75.0 % (6 min 40 s before)" in capsys.readouterr().out


def test_a_plan_of_the_same_run(folder, tmp_path, capsys):
    planned = fill(tmp_path / "plan", build_run(), [
        *attempt_events("a", 0.0, 1.0, 1.0, 81.0, "n/gpu-0"), *attempt_events("b", 0.0, 1.0, 1.0, 51.0, "n/gpu-1")
    ]).events_file  # fmt: skip
    assert main(["report", str(folder.root), "--against", str(planned)]) == 0
    assert "Against calls as planned: makespan +23.5 % (81.0 s before)" in capsys.readouterr().out
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["report", str(folder.root), "--against", str(tmp_path / "empty.jsonl")]) == 2
    assert "no events of calls; make them with epp-batch plan --run" in capsys.readouterr().err


@pytest.mark.parametrize("price", ["x", "-1", "medium=", "nan", "inf", "=", "a=b"])
def test_prices_that_are_none(folder, capsys, price):
    assert main(["report", str(folder.root), f"--price={price}"]) == 2
    assert "give an amount for an hour, e.g. 2.5 or large-v3=4.1" in capsys.readouterr().err


def test_prices():
    found = command.parse_prices(["2.5", "worker=0.1", "large-v3=4"], "EUR")
    assert (found.gpu_hour, found.worker_hour, found.gpu_hour_by_model, found.currency) == (
        2.5,
        0.1,
        {"large-v3": 4.0},
        "EUR",
    )


def test_placements_say_how_much_of_a_gpu_a_model_holds():
    placements = {
        "medium": Placement(accelerator="mig:1g.5gb"), "large": Placement(accelerator="gpu:2"),
        "tiny": Placement(accelerator="cpu"),
    }  # fmt: skip
    cluster = msgspec.structs.replace(CLUSTER, placements=placements)
    made = build_run(
        ("a", build_task("x")), ("b", build_task("y", "large")), ("c", build_task("z", "tiny")), cluster=cluster
    )
    assert command.gpu_shares(made) == {"medium": 0.125, "large": 2.0, "tiny": 0.0}
    assert command.gpu_shares(build_run(("a", build_task("x")), cluster=None)) == {}


def test_events_alone_are_enough(tmp_path, capsys):
    """What a planner leaves, or a run that has only begun."""
    folder = fill(tmp_path, build_run(("a", build_task("x"))), [build_event(5.0, "a", "created")])
    assert main(["report", str(folder.root)]) == 0
    assert "Not over: 0 running, 1 waiting." in capsys.readouterr().out
