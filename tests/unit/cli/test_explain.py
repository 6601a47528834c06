"""Decisions as the tables of `epp explain`."""

from __future__ import annotations

from epp.cli.explain import build_candidate_table
from epp.scheduling.explain import explain_result
from tests.unit.scheduling.conftest import run_roles_profile


def test_a_result_as_a_table() -> None:
    assert build_candidate_table(explain_result(run_roles_profile())) == (
        ["", "endpoint", "queue x2", "kv x1", "total", "dropped by"],
        [
            ["*", "e2", "1.000", "0.500", "2.500", ""],
            ["", "e0", "0.000", "0.500", "0.500", ""],
            ["", "e1", "", "", "", "roles"],
        ],
    )
