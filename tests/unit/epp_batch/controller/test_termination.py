"""What a termination message says about a task, and what objects say where there is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from epp_batch.controller.termination import (
    TaskTermination,
    explain_failure,
    failure_from_message,
    parse_termination_messages,
    result_from_message,
)
from epp_batch.controller.unit_status import UnitObjects, UnitStatus
from epp_batch.kube.objects import Pod
from epp_batch.spec import Recording, Task, TranscriptionOptions
from tests.unit.epp_batch.controller.objects import make_job, make_pod

TASK = Task(recording=Recording(source="a.wav", stems=("a",), sha256="a"), model="tiny")


def ended_pod(*entries: dict[str, Any], name: str = "p1") -> Pod:
    message = msgspec.json.encode({"tasks": entries}).decode()
    return make_pod("Failed", name=name, started_at=4, terminated={"exitCode": 1, "message": message})


def entry(**fields: Any) -> dict[str, Any]:
    return {"stem": "a", "key": "k", **fields}


@pytest.mark.parametrize("success_first", [True, False])
def test_the_success_of_one_attempt_wins_over_the_failure_of_another(success_first: bool):
    pods = [ended_pod(entry(audio_seconds=9.0)), ended_pod(entry(kind="corrupt"), name="p2")]
    entries = parse_termination_messages(pods if success_first else reversed(pods))
    assert (entries["k"].kind, entries["k"].audio_seconds) == ("", 9.0)


def test_pods_without_a_message_of_a_worker_are_passed_over():
    log_tail = make_pod("Failed", started_at=4, terminated={"exitCode": 1, "message": "Traceback"})
    pods = [make_pod("Running", started_at=4), make_pod("Failed", terminated={"exitCode": 1}), log_tail]
    assert parse_termination_messages(pods) == {}
    assert list(parse_termination_messages([*pods, ended_pod(entry())])) == ["k"]


def test_the_real_time_factor_of_a_reported_result():
    reported = TaskTermination(stem="a", key="k", audio_seconds=10.0, timings={"transcribe": 5.0})
    result = result_from_message(TASK, TranscriptionOptions(), reported, "n1")
    assert (result.key, result.source, result.rtf, result.host, result.files) == ("k", "a.wav", 0.5, "n1", {})
    unmeasured = TaskTermination(stem="a", key="k")
    assert result_from_message(TASK, TranscriptionOptions(), unmeasured).rtf == 0.0


def test_a_failure_kind_of_another_version_is_internal():
    reported = TaskTermination(stem="a", key="k", kind="melted", message="two\n  lines", finished=5.0)
    failure = failure_from_message(TASK, reported)
    assert (failure.kind, failure.stage, failure.message, failure.at) == ("internal", "transcribe", "two lines", 5.0)


@pytest.mark.parametrize(
    ("status", "objects", "kind", "message"),
    [
        (UnitStatus("failed", "DeadlineExceeded"), UnitObjects(), "timeout", "DeadlineExceeded"),
        (UnitStatus("queued", "Inadmissible", "no\nqueue"), UnitObjects(), "refused", "no queue"),
        (
            UnitStatus("succeeded"),
            UnitObjects(make_job()),
            "missing",
            "its Job succeeded, but the transcript is not in the output folder",
        ),
        (
            UnitStatus("failed", "BackoffLimitExceeded", "too often"),
            UnitObjects(make_job()),
            "internal",
            "its Job failed (BackoffLimitExceeded: too often), and its pod has been deleted",
        ),
        (
            UnitStatus("failed"),
            UnitObjects(make_job(), None, (ended_pod(), ended_pod(name="p2"))),
            "internal",
            "exit code 1, after 2 pods",
        ),
    ],
)
def test_a_failure_without_message_is_explained_by_status_and_pods(
    status: UnitStatus, objects: UnitObjects, kind: str, message: str
):
    failure = explain_failure(TASK, "k", status, objects, 7.0)
    assert (failure.source, failure.key, failure.at) == ("a.wav", "k", 7.0)
    assert (failure.kind, failure.message) == (kind, message)
