"""Flags of sources, models and Whisper's options, and the name of a run."""

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


def test_without_flags_the_options_are_the_defaults():
    assert source_flags.parse_whisper_options(parsed()) == TranscriptionOptions()


def test_every_transcription_option_has_a_flag():
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
def test_formats_and_languages_that_do_not_exist(words, what):
    with pytest.raises(InputError, match=what):
        source_flags.parse_whisper_options(parsed(*words))


def test_a_run_is_named_after_its_folders_path(tmp_path):
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
    previous = Run(name="was", output="/elsewhere", options=TranscriptionOptions(), units=(), cluster=cluster)
    folder = OutputFolder(tmp_path)
    folder.save_run(previous)
    assert source_flags.choose_run_name(None, folder) == "was"
    assert source_flags.choose_run_name("given", folder) == "given"


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "x" * 51])
def test_run_names_that_no_job_could_have(tmp_path, name):
    with pytest.raises(InputError, match="cannot be the name of Jobs"):
        source_flags.choose_run_name(name, OutputFolder(tmp_path))
