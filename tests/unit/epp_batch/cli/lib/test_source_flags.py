"""Flags that commands share, and the name of a run."""

from __future__ import annotations

import argparse
import re

import pytest

from epp_batch.cli.lib import source_flags
from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import FORMATS, ClusterOptions, Run, TranscriptionOptions


def parsed(*words):
    parser = argparse.ArgumentParser()
    source_flags.add_source_flags(parser)
    source_flags.add_model_flags(parser, "base")
    source_flags.add_whisper_flags(parser)
    source_flags.add_order_flags(parser)
    return parser.parse_args(["a.mp3", "-o", "out", *words])


def test_without_flags_it_is_whispers_default():
    assert source_flags.parse_whisper_options(parsed()) == TranscriptionOptions()


def test_every_option_has_a_flag():
    words = (
        "--language de --task translate --beam-size 1 --batch-size 2 --no-vad --no-word-timestamps "
        "--compute-type int8 --initial-prompt Hello --formats txt,json,txt"
    )
    chosen = source_flags.parse_whisper_options(parsed(*words.split()))
    assert chosen.formats == ("txt", "json")
    assert not [
        name
        for name in TranscriptionOptions.__struct_fields__
        if getattr(chosen, name) == getattr(TranscriptionOptions(), name)
    ]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--formats", "txt,doc"], rf"--formats: doc; choose from {', '.join(FORMATS)}"),
        (["--formats", ","], "--formats: none given"),
        (["--language", "English"], "--language English; give a code"),
    ],
)
def test_options_that_whisper_does_not_know(words, what):
    with pytest.raises(InputError, match=what):
        source_flags.parse_whisper_options(parsed(*words))


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("2m", 120)])
def test_durations(text, seconds):
    assert source_flags.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "soon"])
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError):
        source_flags.parse_duration(text)


def test_values_by_model():
    assert source_flags.parse_per_model("--x", ["gpu", "large=mig:3g.20gb"]) == {"*": "gpu", "large": "mig:3g.20gb"}
    assert source_flags.parse_per_model("--x", ["/models/a=b"]) == {"*": "/models/a=b"}
    assert source_flags.parse_per_model("--x", ["large=/models/a=b"]) == {"large": "/models/a=b"}


@pytest.mark.parametrize("texts", [["a", "b"], ["m=a", "m=b"], ["=a"], ["m="], [""]])
def test_values_that_say_two_things_or_none(texts):
    with pytest.raises(InputError, match="--x"):
        source_flags.parse_per_model("--x", texts)


def test_a_run_is_named_by_its_folders_path(tmp_path):
    here, there = OutputFolder(tmp_path / "a" / "My Calls!"), OutputFolder(tmp_path / "b" / "My Calls!")
    name = source_flags.choose_run_name(None, here)
    assert re.fullmatch("my-calls-[0-9a-f]{6}", name)
    assert name == source_flags.choose_run_name(None, here) != source_flags.choose_run_name(None, there)
    assert (
        len(source_flags.choose_run_name(None, OutputFolder(tmp_path / ("x" * 200))))
        <= source_flags.MAX_RUN_NAME_LENGTH
    )
    assert source_flags.choose_run_name(None, OutputFolder("/")).startswith("run-")


def test_a_run_keeps_its_name_when_its_folder_moves(tmp_path):
    cluster = ClusterOptions(namespace="n", queue="q", image="i")
    before = Run(name="was", output="/elsewhere", options=TranscriptionOptions(), units=(), cluster=cluster)
    folder = OutputFolder(tmp_path)
    folder.save_run(before)
    assert source_flags.choose_run_name(None, folder) == "was"
    assert source_flags.choose_run_name("given", folder) == "given"


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "x" * 51])
def test_names_that_no_job_could_have(tmp_path, name):
    with pytest.raises(InputError, match="cannot be the name of Jobs"):
        source_flags.choose_run_name(name, OutputFolder(tmp_path))
