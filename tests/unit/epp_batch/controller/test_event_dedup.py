"""Every event of a run is recorded once, by any number of successive drivers."""

from __future__ import annotations

import pytest

from epp_batch.controller.event_dedup import EventDeduplicator
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.timeline import TimelineEvent
from tests.unit.epp_batch.controller.objects import (
    ADMITTED,
    RESERVED,
    RUNNING,
    T0,
    UNIT,
    make_condition,
    make_job,
    make_pod,
    make_workload,
)

AGAIN = [make_condition("QuotaReserved", second=9), make_condition("Admitted", second=9)]
EVICTED = UnitObjects(make_job(), make_workload(make_condition("Evicted", reason="Preempted", second=6), evictions=1))
READMITTED = UnitObjects(
    make_job(),
    make_workload(*AGAIN, make_condition("Evicted", "False", second=9), evictions=1),
    (make_pod("Running", name="p2", created_at=10, started_at=11),),
)
LIFE = [
    UnitObjects(make_job()),
    UnitObjects(make_job(), make_workload()),
    UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)),
    RUNNING,
    EVICTED,
    READMITTED,
]


def collect(dedup: EventDeduplicator, objects: UnitObjects, now: float) -> list[TimelineEvent]:
    return dedup.collect_new_events(UNIT, objects, T0 + now)


@pytest.mark.parametrize("death", range(len(LIFE) + 1))
def test_a_second_driver_continues_the_journal_of_the_first(death: int):
    alone, journal = EventDeduplicator(), []
    whole = [event for second, objects in enumerate(LIFE) for event in collect(alone, objects, second)]
    dedup = EventDeduplicator()
    for second, objects in enumerate(LIFE):
        if second == death:
            dedup = EventDeduplicator(journal)
        journal += collect(dedup, objects, second)
        journal += collect(dedup, objects, second)  # a second observation is not recorded
    assert [(e.kind, e.attempt) for e in journal] == [(e.kind, e.attempt) for e in whole]
    assert [kind for kind, _ in [(e.kind, e.attempt) for e in whole]] == [
        "created", "queued", "reserved", "admitted", "running", "evicted", "reserved", "admitted", "running",
    ]  # fmt: skip


def test_an_event_has_our_time_if_observed_as_it_happened_else_the_servers():
    now = T0 + 4.4
    events = EventDeduplicator().collect_new_events(UNIT, RUNNING, now)
    assert [event.at for event in events] == [T0, T0 + 1, T0 + 2, T0 + 2, now]


def test_a_recreated_job_continues_the_attempt_numbers():
    dedup = EventDeduplicator()
    first = collect(dedup, RUNNING, 4)
    failed = UnitObjects(make_job(make_condition("Failed", second=8)), RUNNING.workload, RUNNING.pods)
    first.append(dedup.record_end(UNIT, failed, "failed", T0 + 8))
    other = UnitObjects(
        make_job(uid="u2"),
        make_workload(RESERVED, ADMITTED),
        (make_pod("Running", name="p9", created_at=30, started_at=31),),
    )
    for successor in (dedup, EventDeduplicator(first)):
        second = collect(successor, other, 31)
        assert [(e.kind, e.attempt) for e in second] == [
            ("created", 0),
            ("queued", 1),
            ("reserved", 2),
            ("admitted", 2),
            ("running", 2),
        ]
        assert not successor.has_ended(UNIT)


def test_the_end_of_a_unit_is_recorded_at_the_jobs_completion_time():
    dedup = EventDeduplicator()
    assert not dedup.has_events(UNIT)
    collect(dedup, RUNNING, 4)
    assert (dedup.has_events(UNIT), dedup.has_ended(UNIT)) == (True, False)
    complete = UnitObjects(make_job(make_condition("Complete", second=50)), RUNNING.workload, RUNNING.pods)
    assert dedup.record_end(UNIT, complete, "finished", T0 + 100.0).at == T0 + 50
    assert dedup.has_ended(UNIT)


def test_the_end_of_one_task_is_not_the_end_of_its_unit():
    dedup = EventDeduplicator()
    collect(dedup, RUNNING, 4)
    assert dedup.record_end(UNIT, RUNNING, "finished", T0 + 6.0, stem="a").stem == "a"
    assert not dedup.has_ended(UNIT)


def test_every_pause_and_resume_is_recorded():
    dedup, journal = EventDeduplicator(), []
    paused, queued = UnitObjects(make_job(), make_workload(active=False)), UnitObjects(make_job(), make_workload())
    for objects in (queued, paused, paused, queued, paused):
        journal += collect(dedup, objects, 1)
    assert [e.kind for e in journal] == ["created", "queued", "paused", "resumed", "paused"]
    assert [e.kind for e in collect(EventDeduplicator(journal), queued, 2)] == ["resumed"]
