"""Histories of single sequences of events; tests/property/test_unit_history.py has the invariants of all."""

from __future__ import annotations

import pytest

from epp_batch.report.unit_history import build_unit_histories
from tests.unit.epp_batch.report.builders import attempt_events, build_event


def build_history(*events, **options):
    return build_unit_histories(events, **options)["u"]


def endings(history):
    return [(attempt.number, attempt.ending) for attempt in history.attempts]


def test_one_attempt_under_kueue():
    history = build_history(*attempt_events("u", 0, 3, 5, 65, "n/gpu-1"))
    (attempt,) = history.attempts
    assert (attempt.allocated, attempt.running, attempt.ended, attempt.ending) == (3, 5, 65, "finished")
    assert attempt.place == "n/gpu-1"
    assert (history.queue_wait, history.state) == (3, "finished")


def test_without_a_queue_the_wait_ends_at_the_start():
    history = build_history(
        build_event(0, "u", "created"), build_event(7, "u", "running", "n"), build_event(9, "u", "finished")
    )
    assert history.queue_wait == 7
    assert history.attempts[0].allocated == 7


def test_an_eviction_ends_an_attempt_and_the_next_admission_begins_one():
    history = build_history(
        build_event(0, "u", "created"),
        build_event(1, "u", "admitted", attempt=1),
        build_event(2, "u", "running", "n/gpu-0", attempt=1),
        build_event(5, "u", "evicted", detail="Preempted"),
        build_event(5, "u", "requeued"),
        build_event(9, "u", "admitted", attempt=2),
        build_event(10, "u", "running", "n/gpu-1", attempt=2),
    )
    assert endings(history) == [(1, "evicted"), (2, "open")]
    assert [attempt.place for attempt in history.attempts] == ["n/gpu-0", "n/gpu-1"]
    assert (history.evictions, history.state) == (1, "running")
    assert history.attempts[0].detail == "Preempted"


def test_a_retried_pod_keeps_its_device_until_the_next_pod_runs():
    history = build_history(
        *attempt_events("u", 0, 1, 2, 10, "n", "retried"),
        build_event(20, "u", "running", "n"),
        build_event(30, "u", "finished"),
    )
    assert [(attempt.allocated, attempt.running, attempt.ended) for attempt in history.attempts] == [
        (1, 2, 10),
        (10, 20, 30),
    ]
    assert history.retries == 1


def test_a_failure_followed_by_another_attempt_is_not_the_end():
    history = build_history(
        *attempt_events("u", 0, 1, 2, 10, "n", "failed"),
        build_event(12, "u", "running", "n"),
        build_event(20, "u", "finished"),
    )
    assert history.end.state == "finished"
    assert [attempt.ending for attempt in history.attempts] == ["failed", "finished"]


def test_a_creation_after_the_end_starts_a_new_lifetime():
    history = build_history(
        *attempt_events("u", 0, 1, 2, 10, "n", "failed"), *attempt_events("u", 100, 101, 102, 110, "n")
    )
    assert history.earlier_lifetimes == [(0, 10)]
    assert (history.created, history.queue_wait, history.end.at) == (100, 1, 110)
    assert len(history.attempts) == 2


def test_an_unrecorded_end_of_local_work_is_the_last_event_of_the_run():
    """Its parent process died after the newest event of the run."""
    events = [*attempt_events("u", 0, 1, 2, 10, "local/worker-0")[:3], build_event(6, "other", "created")]
    history = build_history(
        *events, build_event(100, "u", "created"), build_event(101, "u", "running", "local/worker-1"), restarts=True
    )
    assert history.earlier_lifetimes == [(0, 6)]
    assert [(attempt.ended, attempt.ending) for attempt in history.attempts] == [(6, "lost"), (None, "open")]


def test_a_job_survives_a_restart_of_its_controller():
    events = attempt_events("u", 0, 1, 2, 10, "n")
    history = build_history(*events[:3], build_event(5, "u", "created"), *events[3:])
    assert endings(history) == [(1, "finished")]
    assert history.created == 0


def test_another_place_without_an_event_between_is_another_attempt():
    history = build_history(
        build_event(0, "u", "created"), build_event(1, "u", "running", "n-1"), build_event(5, "u", "running", "n-2")
    )
    assert [(attempt.place, attempt.ending) for attempt in history.attempts] == [("n-1", "lost"), ("n-2", "open")]


def test_another_pod_name_is_another_attempt():
    """The controller was down when the first pod failed."""
    pods = [build_event(at, "u", "running", "n", detail=name) for at, name in ((1, "u-x"), (1.5, "u-x"), (5, "u-y"))]
    history = build_history(build_event(0, "u", "created"), *pods)
    assert [(attempt.running, attempt.ended, attempt.ending) for attempt in history.attempts] == [
        (1, 5, "lost"),
        (5, None, "open"),
    ]


def test_another_job_uid_starts_a_new_lifetime():
    run = [build_event(at, "u", "created", detail=uid) for at, uid in ((0, "1-2"), (3, "1-2"), (50, "3-4"))]
    history = build_history(*run[:2], build_event(4, "u", "running", "n"), run[2])
    assert (history.created, history.earlier_lifetimes) == (50, [(0, 4)])


def test_a_late_eviction_event_does_not_end_a_later_attempt():
    events = [build_event(at, "u", kind, attempt=1 + (at > 4)) for at, kind in ((1, "admitted"), (3, "running"))]
    history = build_history(
        build_event(0, "u", "created"), *events, build_event(5, "u", "evicted", attempt=1),
        build_event(6, "u", "admitted", attempt=2),
        build_event(7, "u", "running", "n", attempt=2),
        build_event(7, "u", "evicted", attempt=1, detail="recorded late"),
    )  # fmt: skip
    assert endings(history) == [(1, "evicted"), (2, "open")]


def test_a_unit_ends_with_its_last_task_and_fails_if_one_failed():
    events = [
        *attempt_events("u", 0, 1, 2, 5, "n", stem="x"),
        build_event(9, "u", "failed", stem="y", detail="decode: it breaks off"),
    ]
    history = build_history(*events, task_counts={"u": 2})
    assert (history.end.state, history.end.at) == ("failed", 9)
    assert {stem: end.state for stem, end in history.task_ends.items()} == {"x": "finished", "y": "failed"}


def test_a_recorded_end_of_a_unit_overrides_the_ends_of_its_tasks():
    events = [
        *attempt_events("u", 0, 1, 2, 5, "n", stem="x"),
        build_event(9, "u", "finished", stem="y"),
        build_event(12, "u", "finished"),
    ]
    history = build_history(*events, task_counts={"u": 2})
    assert history.end.at == 12
    assert history.attempts[-1].ended == 12


@pytest.mark.parametrize("first", ["admitted", "running", "queued"])
def test_without_a_creation_event_the_first_event_is_the_creation(first):
    assert build_history(build_event(4, "u", first), build_event(9, "u", "finished")).created == 4


def test_events_of_summaries_are_ignored():
    assert build_unit_histories([build_event(0, "u", "summarizing", stem="u")]) == {}
