"""Flags for where Jobs run, by model, and the options they make."""

from __future__ import annotations

import argparse

import pytest

from epp_batch.cli.lib import job_flags, source_flags
from epp_batch.errors import InputError
from epp_batch.spec import Placement


def parsed(*words):
    parser = argparse.ArgumentParser()
    job_flags.add_connection_flags(parser)
    job_flags.add_job_flags(parser)
    source_flags.add_model_flags(parser, "base")
    return parser.parse_args(["--image", "worker:1", *words])


def cluster(*words, models=("large", "medium")):
    args = parsed(*words)
    job_flags.check_job_flags(args)
    return job_flags.build_cluster(args, "whisper", models)


def test_one_queue_for_all_models():
    made = cluster("--queue", "lq", "--volume", "pvc/a=/mnt/a", "--max-exec", "2h", "--run-as", "1000:100")
    assert (made.namespace, made.queue, made.max_exec_seconds, made.ttl_seconds) == ("whisper", "lq", 7200, 86_400)
    assert made.placement_for("large") == Placement(queue="lq")
    assert made.run_as == "1000:100"
    assert made.volumes[0].source == "pvc/a"


def test_node_selector():
    assert cluster("--queue", "lq", "--node-selector", "zone=a").node_selector == {"zone": "a"}


@pytest.mark.parametrize("text", ["root", "1:", ":1", "1:2:3", "-1"])
def test_users_other_than_numbers_are_invalid(text, capsys):
    with pytest.raises(SystemExit):
        parsed("--queue", "lq", f"--run-as={text}")
    assert "in numbers" in capsys.readouterr().err


def test_a_flag_for_one_model_does_not_change_the_others():
    made = cluster(
        *("--queue", "lq", "--queue", "large=big", "--accelerator", "mig:1g.5gb", "--accelerator", "large=mig:3g.20gb"),
        *("--priority-class", "large=high", "--memory", "8Gi", "--model-path", "large=/models/large"),
    )
    assert made.placement_for("medium") == Placement(queue="lq", accelerator="mig:1g.5gb", memory="8Gi")
    assert made.placement_for("large") == Placement(
        queue="big", accelerator="mig:3g.20gb", memory="8Gi", priority_class="high", model_path="/models/large"
    )


def test_one_queue_per_model():
    made = cluster("--queue", "large=a", "--queue", "medium=b")
    assert (made.placement_for("large").queue, made.placement_for("medium").queue) == ("a", "b")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "no queue was named"),
        (["--queue", "large=a"], "no queue for model medium"),
        (["--queue", "lq", "--accelerator", "tpu"], "invalid accelerator 'tpu'; expected gpu"),
        (["--queue", "lq", "--accelerator", "cpu"], "--cpu AMOUNT"),
        (["--queue", "lq", "--accelerator", "small=gpu"], "no recording is for model small"),
        (["--queue", "lq", "--memory", "8GB"], "invalid quantity '8GB'"),
        (["--queue", "lq", "--memory", "0"], "--memory 0; give an amount above 0"),
        (["--queue", "lq", "--volume", "audio"], "unknown kind or missing name"),
        (["--queue", "lq", "--volume", "pvc/a=/x:/d", "--volume", "pvc/b=/y:/d"], "both at /d"),
        (["--queue", "lq", "--node-selector", "zone"], "give LABEL=VALUE"),
        (["--queue", "lq", "--ttl", "30s"], "--ttl below a minute"),
    ],
)
def test_invalid_flags(words, what):
    with pytest.raises(InputError, match=what):
        cluster(*words)


def test_a_model_that_only_a_rule_names_may_have_flags():
    made = cluster("--queue", "lq", "--model", ">9h=huge", "--accelerator", "huge=gpu:2")
    assert made.placement_for("huge").accelerator == "gpu:2"
