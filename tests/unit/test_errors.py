"""Exceptions keep their type, message and attributes when they are pickled."""

from __future__ import annotations

import pickle

import pytest

from epp.errors import ConfigError, DataSourceError, Overloaded, Problem


@pytest.mark.parametrize(
    "error",
    [
        ConfigError([Problem("plugins[0]", "is unknown"), Problem("", "is empty")], "a.yaml"),
        DataSourceError("no answer"),
        Overloaded("full", dropped_reason="why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
