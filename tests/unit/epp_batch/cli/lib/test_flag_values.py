"""Parsers of single flag values."""

from __future__ import annotations

import argparse

import pytest

from epp_batch.cli.lib import flag_values
from epp_batch.errors import InputError


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("2m", 120)])
def test_a_duration(text, seconds):
    assert flag_values.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1d", "soon"])
def test_an_invalid_duration(text):
    with pytest.raises(argparse.ArgumentTypeError):
        flag_values.parse_duration(text)


def test_values_per_model():
    assert flag_values.parse_per_model("--x", ["gpu", "large=mig:3g.20gb"]) == {"*": "gpu", "large": "mig:3g.20gb"}
    assert flag_values.parse_per_model("--x", ["/models/a=b"]) == {"*": "/models/a=b"}
    assert flag_values.parse_per_model("--x", ["large=/models/a=b"]) == {"large": "/models/a=b"}


@pytest.mark.parametrize("texts", [["a", "b"], ["m=a", "m=b"], ["=a"], ["m="], [""]])
def test_conflicting_and_empty_values_per_model(texts):
    with pytest.raises(InputError, match="--x"):
        flag_values.parse_per_model("--x", texts)
