"""Everything is told once, by however many drivers."""

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
    (make_pod("Running", name="p2", born=10, began=11),),
)
LIFE = [
    UnitObjects(make_job()),
    UnitObjects(make_job(), make_workload()),
    UnitObjects(make_job(), make_workload(RESERVED, ADMITTED)),
    RUNNING,
    EVICTED,
    READMITTED,
]


def tell(chronicle: EventDeduplicator, facts: UnitObjects, now: float) -> list[TimelineEvent]:
    return chronicle.collect_new_events(UNIT, facts, T0 + now)


@pytest.mark.parametrize("death", range(len(LIFE) + 1))
def test_a_second_driver_goes_on_where_the_first_ended(death: int):
    alone, journal = EventDeduplicator(), []
    whole = [event for second, facts in enumerate(LIFE) for event in tell(alone, facts, second)]
    chronicle = EventDeduplicator()
    for second, facts in enumerate(LIFE):
        if second == death:
            chronicle = EventDeduplicator(journal)
        journal += tell(chronicle, facts, second)
        journal += tell(chronicle, facts, second)  # a second look tells nothing
    assert [(e.kind, e.attempt) for e in journal] == [(e.kind, e.attempt) for e in whole]
    assert [kind for kind, _ in [(e.kind, e.attempt) for e in whole]] == [
        "created", "queued", "reserved", "admitted", "running", "evicted", "reserved", "admitted", "running",
    ]  # fmt: skip


def test_what_is_seen_as_it_happens_has_our_time_and_what_was_missed_the_servers():
    now = T0 + 4.4
    told = EventDeduplicator().collect_new_events(UNIT, RUNNING, now)
    assert [event.at for event in told] == [T0, T0 + 1, T0 + 2, T0 + 2, now]


def test_a_job_that_is_made_again_counts_its_attempts_on():
    chronicle = EventDeduplicator()
    first = tell(chronicle, RUNNING, 4)
    failed = UnitObjects(make_job(make_condition("Failed", second=8)), RUNNING.workload, RUNNING.pods)
    first.append(chronicle.record_end(UNIT, failed, "failed", T0 + 8))
    other = UnitObjects(
        make_job(uid="u2"), make_workload(RESERVED, ADMITTED), (make_pod("Running", name="p9", born=30, began=31),)
    )
    for chronicler in (chronicle, EventDeduplicator(first)):
        second = tell(chronicler, other, 31)
        assert [(e.kind, e.attempt) for e in second] == [
            ("created", 0),
            ("queued", 1),
            ("reserved", 2),
            ("admitted", 2),
            ("running", 2),
        ]
        assert not chronicler.has_ended(UNIT)


def test_an_end_is_known():
    chronicle = EventDeduplicator()
    assert not chronicle.has_events(UNIT)
    tell(chronicle, RUNNING, 4)
    assert (chronicle.has_events(UNIT), chronicle.has_ended(UNIT)) == (True, False)
    complete = UnitObjects(make_job(make_condition("Complete", second=50)), RUNNING.workload, RUNNING.pods)
    assert chronicle.record_end(UNIT, complete, "finished", T0 + 100.0).at == T0 + 50
    assert chronicle.has_ended(UNIT)


def test_the_end_of_one_task_is_not_the_end_of_its_unit():
    chronicle = EventDeduplicator()
    tell(chronicle, RUNNING, 4)
    assert chronicle.record_end(UNIT, RUNNING, "finished", T0 + 6.0, stem="a").stem == "a"
    assert not chronicle.has_ended(UNIT)


def test_pausing_is_told_each_time():
    chronicle, journal = EventDeduplicator(), []
    paused, queued = UnitObjects(make_job(), make_workload(active=False)), UnitObjects(make_job(), make_workload())
    for facts in (queued, paused, paused, queued, paused):
        journal += tell(chronicle, facts, 1)
    assert [e.kind for e in journal] == ["created", "queued", "paused", "resumed", "paused"]
    assert [e.kind for e in tell(EventDeduplicator(journal), queued, 2)] == ["resumed"]
