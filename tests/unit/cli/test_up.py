"""`epp up`: its arguments, and the bootstrap that it prints."""

from __future__ import annotations

import argparse

import pytest
import yaml

from epp.cli.up import add_arguments, build_settings, run
from epp.errors import ConfigError
from epp.gateway.programs import build_picker_program


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_arguments_after_two_dashes_are_passed_to_the_picker():
    settings = build_settings(parsed("--endpoint", "10.0.0.1:1", "--", "--v", "4", "--seed=7"))
    argv = build_picker_program(settings, {"picker": 1, "health": 2, "metrics": 3}, ["10.0.0.1:1"], None).argv
    assert argv[-3:] == ["--v", "4", "--seed=7"]
    assert "--endpoint=10.0.0.1:1" in argv
    assert "--completion=access-log" in argv


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give --endpoint HOST:PORT"),
        (["--sim=-1"], "--sim: the number of servers must not be negative"),
        (["--sim=1", "--admin-port=65536"], "--admin-port: invalid port: expected 0-65535"),
        (["--sim=1", "--config-file=a", "--config-text=b"], "--config-file, --config-text: are mutually exclusive"),
        (["--round-robin", "--dns=a:1"], "--round-robin: needs --endpoint or --sim"),
    ],
)
def test_contradictions_are_reported(words, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build_settings(parsed(*words))


def test_print_envoy_prints_the_bootstrap_and_starts_nothing(capsys):
    assert run(parsed("--endpoint=10.0.0.1:1", "--port=0", "--metrics-port=0", "--print-envoy")) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert [cluster["name"] for cluster in config["static_resources"]["clusters"]] == ["pool", "picker", "picker-log"]
