"""What single orders of events mean; the laws that all of them keep are in tests/property/test_spans.py."""

from __future__ import annotations

import pytest

from epp_batch.report.unit_history import build_unit_histories
from tests.unit.epp_batch.report.given import attempt_events, build_event


def read(*events, **options):
    return build_unit_histories(events, **options)["u"]


def endings(history):
    return [(attempt.number, attempt.ending) for attempt in history.attempts]


def test_a_life_under_kueue():
    history = read(*attempt_events("u", 0, 3, 5, 65, "n/gpu-1"))
    (attempt,) = history.attempts
    assert (attempt.allocated, attempt.running, attempt.ended, attempt.ending) == (3, 5, 65, "finished")
    assert attempt.place == "n/gpu-1"
    assert (history.queue_wait, history.state) == (3, "finished")


def test_without_a_queue_the_wait_ends_when_it_runs():
    history = read(build_event(0, "u", "created"), build_event(7, "u", "running", "n"), build_event(9, "u", "finished"))
    assert history.queue_wait == 7
    assert history.attempts[0].allocated == 7


def test_an_eviction_gives_the_device_back_and_the_next_admission_takes_it_again():
    history = read(
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


def test_a_pod_that_fails_keeps_its_quota_until_the_next_one_runs():
    history = read(
        *attempt_events("u", 0, 1, 2, 10, "n", "retried"),
        build_event(20, "u", "running", "n"),
        build_event(30, "u", "finished"),
    )
    assert [(one.allocated, one.running, one.ended) for one in history.attempts] == [(1, 2, 10), (10, 20, 30)]
    assert history.retries == 1


def test_a_failure_that_is_followed_by_another_attempt_was_not_the_end():
    history = read(
        *attempt_events("u", 0, 1, 2, 10, "n", "failed"),
        build_event(12, "u", "running", "n"),
        build_event(20, "u", "finished"),
    )
    assert history.end.state == "finished"
    assert [attempt.ending for attempt in history.attempts] == ["failed", "finished"]


def test_what_is_submitted_again_after_its_end_begins_anew():
    history = read(*attempt_events("u", 0, 1, 2, 10, "n", "failed"), *attempt_events("u", 100, 101, 102, 110, "n"))
    assert history.earlier_lifetimes == [(0, 10)]
    assert (history.created, history.queue_wait, history.end.at) == (100, 1, 110)
    assert len(history.attempts) == 2


def test_local_work_that_nobody_saw_the_end_of_ended_with_its_parent():
    """The last that was heard of the run is when it died."""
    events = [*attempt_events("u", 0, 1, 2, 10, "local/worker-0")[:3], build_event(6, "other", "created")]
    history = read(
        *events, build_event(100, "u", "created"), build_event(101, "u", "running", "local/worker-1"), restarts=True
    )
    assert history.earlier_lifetimes == [(0, 6)]
    assert [(one.ended, one.ending) for one in history.attempts] == [(6, "lost"), (None, "open")]


def test_a_job_outlives_its_driver():
    events = attempt_events("u", 0, 1, 2, 10, "n")
    history = read(*events[:3], build_event(5, "u", "created"), *events[3:])
    assert endings(history) == [(1, "finished")]
    assert history.created == 0


def test_a_change_of_place_without_a_word_is_another_pod():
    history = read(
        build_event(0, "u", "created"), build_event(1, "u", "running", "n-1"), build_event(5, "u", "running", "n-2")
    )
    assert [(one.place, one.ending) for one in history.attempts] == [("n-1", "lost"), ("n-2", "open")]


def test_pods_have_names():
    """The driver was away when the first one failed."""
    pods = [build_event(at, "u", "running", "n", detail=name) for at, name in ((1, "u-x"), (1.5, "u-x"), (5, "u-y"))]
    history = read(build_event(0, "u", "created"), *pods)
    assert [(one.running, one.ended, one.ending) for one in history.attempts] == [(1, 5, "lost"), (5, None, "open")]


def test_another_job_of_that_name_is_another_life():
    made = [build_event(at, "u", "created", detail=uid) for at, uid in ((0, "1-2"), (3, "1-2"), (50, "3-4"))]
    history = read(*made[:2], build_event(4, "u", "running", "n"), made[2])
    assert (history.created, history.earlier_lifetimes) == (50, [(0, 4)])


def test_an_eviction_told_late_ends_no_later_admission():
    events = [build_event(at, "u", kind, attempt=1 + (at > 4)) for at, kind in ((1, "admitted"), (3, "running"))]
    history = read(
        build_event(0, "u", "created"), *events, build_event(5, "u", "evicted", attempt=1),
        build_event(6, "u", "admitted", attempt=2),
        build_event(7, "u", "running", "n", attempt=2), build_event(7, "u", "evicted", attempt=1, detail="told again"),
    )  # fmt: skip
    assert endings(history) == [(1, "evicted"), (2, "open")]


def test_a_shard_ends_with_its_last_task_and_failed_if_one_did():
    events = [
        *attempt_events("u", 0, 1, 2, 5, "n", stem="x"),
        build_event(9, "u", "failed", stem="y", detail="decode: it breaks off"),
    ]
    history = read(*events, tasks={"u": 2})
    assert (history.end.state, history.end.at) == ("failed", 9)
    assert {stem: end.state for stem, end in history.task_ends.items()} == {"x": "finished", "y": "failed"}


def test_the_end_of_a_shard_that_is_told_of_counts_more_than_that_of_its_tasks():
    events = [
        *attempt_events("u", 0, 1, 2, 5, "n", stem="x"),
        build_event(9, "u", "finished", stem="y"),
        build_event(12, "u", "finished"),
    ]
    history = read(*events, tasks={"u": 2})
    assert history.end.at == 12
    assert history.attempts[-1].ended == 12


@pytest.mark.parametrize("first", ["admitted", "running", "queued"])
def test_a_creation_that_nobody_wrote_is_the_first_word(first):
    assert read(build_event(4, "u", first), build_event(9, "u", "finished")).created == 4


def test_summaries_are_no_part_of_a_unit():
    assert build_unit_histories([build_event(0, "u", "summarizing", stem="u")]) == {}
