"""Failures say what, where and the way out, and their codes mean one thing each."""

from __future__ import annotations

from epp.errors import EppError, Problem
from epp_batch.errors import ClusterError, Kind, Stage, Unreachable, WorkError


def test_one_code_one_kind():
    assert len({kind.code for kind in Kind}) == len(Kind)
    assert all(Kind.of_code(kind.code) is kind for kind in Kind)
    assert Kind.of_code(3) is Kind.INTERNAL


def test_a_failed_recording_in_one_line():
    error = WorkError(Kind.CORRUPT, Stage.DECODE, "a/call.mp3", "no audio stream")
    assert str(error) == f"a/call.mp3: decode: no audio stream; {Kind.CORRUPT.remedy}"


def test_a_cluster_error_lists_all_problems():
    error = Unreachable("two things", [Problem("LocalQueue b/lq", "missing"), Problem("ClusterQueue cq", "inactive")])
    assert str(error).splitlines() == ["two things", "  LocalQueue b/lq: missing", "  ClusterQueue cq: inactive"]
    assert isinstance(error, ClusterError)
    assert isinstance(error, EppError)
