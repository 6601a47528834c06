"""Error messages and exit codes."""

from __future__ import annotations

from epp.errors import EppError, Problem
from epp_batch.errors import ApiServerUnreachable, ClusterError, FailureKind, TaskError, TaskStage


def test_exit_codes_are_unique():
    assert len({kind.exit_code for kind in FailureKind}) == len(FailureKind)
    assert all(FailureKind.from_exit_code(kind.exit_code) is kind for kind in FailureKind)
    assert FailureKind.from_exit_code(3) is FailureKind.INTERNAL


def test_task_error_message():
    error = TaskError(FailureKind.CORRUPT, TaskStage.DECODE, "a/call.mp3", "no audio stream")
    assert str(error) == f"a/call.mp3: decode: no audio stream; {FailureKind.CORRUPT.remedy}"


def test_cluster_error_lists_all_problems():
    error = ApiServerUnreachable(
        "two things", [Problem("LocalQueue b/lq", "missing"), Problem("ClusterQueue cq", "inactive")]
    )
    assert str(error).splitlines() == ["two things", "  LocalQueue b/lq: missing", "  ClusterQueue cq: inactive"]
    assert isinstance(error, ClusterError)
    assert isinstance(error, EppError)
