"""`epp-batch submit` from flags and files to a run. What it does on a cluster is in tests/kube/test_submit.py."""

from __future__ import annotations

import pytest

from epp.clock import ManualClock
from epp_batch.__main__ import main, parse_arguments
from epp_batch.cli import submit
from epp_batch.cli.lib import dry_run
from epp_batch.cli.lib.preflight import ClusterSnapshot
from epp_batch.errors import InputError
from epp_batch.manifests.queues import build_kueue_objects, build_preset
from epp_batch.output_folder import OutputFolder
from epp_batch.preflight.checks import ClusterInventory
from tests.speech import write_silent_wav

NODE = {
    "kind": "Node",
    "metadata": {
        "name": "a",
        "labels": {"nvidia.com/gpu.count": "1", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"},
    },
    "status": {"allocatable": {"mig.das.com/mig-1g.5gb": "7", "mig.das.com/mig-3g.20gb": "2"}},
}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


def submit_arguments(calls, *more):
    base = ["submit", str(calls), "-o", str(calls.parent / "out"), "--image", "w", "--volume", f"host/{calls.parent}"]
    return [*base, *more]


def build_run(calls, *more, cluster=None):
    args = parse_arguments(submit_arguments(calls, "--queue", "whisper", *more))
    folder = OutputFolder(args.output)
    gathered = submit._gather_sources(args, folder)
    return submit._build_run(args, folder, gathered, "whisper", cluster, ManualClock())


def test_models_are_chosen_by_length_and_long_recordings_come_first(calls):
    for seconds in (5, 40, 20):
        write_silent_wav(seconds, calls / f"{seconds}.wav")
    run = build_run(calls, "--model", ">=30s=large", "--model", "small", "--run", "r")
    assert [(unit.model, unit.seconds) for unit in run.units] == [("large", 40), ("small", 20), ("small", 5)]
    assert {unit.name[:2] for unit in run.units} == {"r-"}
    assert (run.created, run.output) == (ManualClock().wall(), str(calls.parent / "out"))


def test_a_rule_by_length_does_not_match_an_unknown_length(calls, capsys):
    write_silent_wav(40, calls / "a.wav")
    run = build_run(calls, "--model", ">=30s=large", "--model", "small", "--no-probe")
    assert run.units[0].model == "small"
    assert "1 recordings of unknown length" in capsys.readouterr().err


def test_order_slots_packs_small_slices_beside_large_ones(calls):
    for seconds in (60, 61, 62, 63):
        write_silent_wav(seconds, calls / f"{seconds}.wav")
    write_silent_wav(120, calls / "120.wav")
    made = [{**one} for one in build_kueue_objects(build_preset("paper-a", "whisper", 8))]
    quotas = made[1]["spec"]["resourceGroups"][0]
    quotas["coveredResources"] = ["nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb"]
    quotas["flavors"][0]["resources"] = [{"name": name, "nominalQuota": "8"} for name in quotas["coveredResources"]]
    made[0]["spec"] = {}
    local = {"kind": "LocalQueue", "metadata": {"name": "whisper"}, "spec": {"clusterQueue": "cluster-queue"}}
    cluster = ClusterSnapshot(ClusterInventory([local]), [*made, local, NODE])
    flags = ("--model", ">100s=large", "--model", "medium", "--accelerator", "large=mig:3g.20gb")
    flags += ("--accelerator", "mig:1g.5gb")
    run = build_run(calls, *flags, "--order", "slots", cluster=cluster)
    assert sorted(unit.seconds for unit in run.units) == [60, 61, 62, 63, 120]
    shown = dry_run.render_prediction(run, cluster.objects)
    assert "up to 5 at once" in shown, shown
    with pytest.raises(InputError, match="--order slots needs the queues and nodes of the cluster"):
        build_run(calls, *flags, "--order", "slots")


def test_a_dry_run_without_a_cluster_shows_the_jobs(calls, capsys):
    write_silent_wav(90, calls / "a.wav")
    (calls / "b.wav").touch()
    assert main(submit_arguments(calls, "--queue", "lq", "--dry-run")) == 1
    shown = capsys.readouterr()
    assert "1:30" in shown.out
    assert "quota is not checked" in shown.err
    assert f"{calls}/b.wav: probe: the file is empty; check that" in shown.err
    assert not (calls.parent / "out").exists()


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--queue", "lq", "--yaml"], "--yaml without --dry-run"),
        (["--queue", "lq", "--no-follow", "--summarize", "http://h/v1"], "--summarize with --no-follow"),
        (["--dry-run"], "no queue was named"),
        (["--queue", "lq", "--dry-run", "--run", "Not This"], "cannot be the name of Jobs"),
        (["--queue", "lq", "--kubeconfig", "/none", "--dry-run"], "/none: no such kubeconfig"),
        (["--queue", "lq"], "no such kubeconfig"),
        (["--queue", "lq", "--dry-run", "--accelerator", "tpu"], "invalid accelerator 'tpu'; expected gpu"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(calls, capsys, more, what):
    write_silent_wav(1, calls / "a.wav")
    assert main(submit_arguments(calls, *more)) == 2
    shown = capsys.readouterr().err
    assert what in shown
    assert shown.count("\n") == 1


def test_sources_none_of_which_can_be_read(calls, capsys):
    (calls / "a.wav").touch()
    assert main(submit_arguments(calls, "--queue", "lq")) == 1
    assert "nothing was submitted, since no recording can be read" in capsys.readouterr().err
    assert OutputFolder(calls.parent / "out").load_failure("a").kind == "corrupt"
    (calls / "a.wav").unlink()
    assert main(submit_arguments(calls, "--queue", "lq")) == 2
    assert "no audio in this folder" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written(calls, capsys):
    (calls / "a.wav").touch()
    (calls.parent / "out").write_text("a file")
    assert main(submit_arguments(calls, "--queue", "lq")) == 2
    assert "give a writable output folder" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(None, "?"), (0.4, "0:00"), (61, "1:01"), (3661, "1:01:01")])
def test_format_of_lengths(seconds, text):
    assert dry_run.format_length(seconds) == text


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["submit", "--help"])
    assert "The same command again does only what is missing." in capsys.readouterr().out
