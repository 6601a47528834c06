"""`epp-batch plan` from the command line to its output."""

from __future__ import annotations

import json
import wave

import pytest

from epp_batch.__main__ import main
from epp_batch.timeline import read_events
from tests.unit.epp_batch.planner.builders import JOBS_CSV

LENGTHS = ["plan", "--lengths", str(JOBS_CSV), "--speeds", "openai-whisper"]
SLICES = ["--accelerator", "medium=mig:1g.5gb", "--accelerator", "large=mig:3g.20gb"]


def predict(capsys, *args):
    assert main([*LENGTHS, *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["policies"]


def test_25_jobs_of_the_paper_run_on_slices_at_once(capsys):
    got = predict(capsys, *SLICES, "--policy", "submission")["submission"]
    assert got["peak"] == 25
    assert got["makespan"] == pytest.approx(got["bound"])


def test_jobs_of_a_higher_priority_class_preempt_others(capsys):
    queues = ["--queues", "paper-c", "--queue", "local-queue-medium", "--priority-class", "large=high-priority"]
    got = predict(capsys, *queues, "--policy", "submission", "--restarts", "--gap", "1")
    assert got["submission"]["units"] == 32
    assert got["submission"]["preemptions"] == 4


def test_output_is_a_table_the_order_and_a_timeline(capsys, tmp_path):
    path = tmp_path / "events.jsonl"
    assert main([*LENGTHS, "--policy", "longest", "--show-order", "--events", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[:3] == ["order", "makespan", "bound"]
    assert lines[4].split()[0] == "longest"
    assert "4469669.mp3" in lines[6]
    assert sum(event.kind == "finished" for event in read_events(path)) == 32


def test_units_that_can_never_run_are_one_line_and_exit_code_1(capsys):
    assert main([*LENGTHS, "--queues", "paper-a", "--policy", "longest"]) == 1
    assert "and 31 more: LocalQueue default does not exist;" in capsys.readouterr().err


def test_an_unreadable_source_is_named_and_the_others_are_planned(capsys, tmp_path):
    with wave.open(str(tmp_path / "good.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(32_000))
    (tmp_path / "bad.mp3").write_bytes(b"no audio")
    assert main(["plan", str(tmp_path), "--policy", "longest", "--json"]) == 1
    got = capsys.readouterr()
    assert "bad.mp3: probe: " in got.err
    assert json.loads(got.out)["policies"]["longest"]["units"] == 1


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "plan needs SOURCE, --lengths or --run, and only one of them"),
        (["--lengths", "missing.csv"], "missing.csv: cannot be read"),
        (["--lengths", str(JOBS_CSV), "--cluster", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--lengths", str(JOBS_CSV), "--rtf", "large=fast"], "--rtf large=fast; give MODEL=FACTOR, e.g. large=0.27"),
        (["--lengths", str(JOBS_CSV), "--rtf", "large=0"], "--rtf large=0; give"),
        (["--lengths", str(JOBS_CSV), "--rtf", "large=nan"], "--rtf large=nan; give"),
        (["--lengths", str(JOBS_CSV), "--accelerator", "tpu"], "unknown accelerator 'tpu'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(capsys, args, why):
    assert main(["plan", *args]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("row", [",12,", "a.mp3,,large", "a.mp3,-1,", "a.mp3,inf,"])
def test_an_invalid_row_of_lengths_is_named_by_its_line(capsys, tmp_path, row):
    path = tmp_path / "lengths.csv"
    path.write_text(f"source,seconds,model\nb.mp3,5,large\n{row}\n")
    assert main(["plan", "--lengths", str(path)]) == 2
    assert f"{path}:3:" in capsys.readouterr().err
