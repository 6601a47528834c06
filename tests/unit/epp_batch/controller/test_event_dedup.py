"""Everything is told once, by however many drivers."""

from __future__ import annotations

import pytest

from epp_batch.controller.event_dedup import Chronicle
from epp_batch.controller.unit_status import Facts
from epp_batch.timeline import Event
from tests.unit.epp_batch.controller.objects import ADMITTED, RESERVED, RUNNING, T0, UNIT, condition, job, pod, workload

AGAIN = [condition("QuotaReserved", second=9), condition("Admitted", second=9)]
EVICTED = Facts(job(), workload(condition("Evicted", reason="Preempted", second=6), evictions=1))
READMITTED = Facts(
    job(),
    workload(*AGAIN, condition("Evicted", "False", second=9), evictions=1),
    (pod("Running", name="p2", born=10, began=11),),
)
LIFE = [
    Facts(job()),
    Facts(job(), workload()),
    Facts(job(), workload(RESERVED, ADMITTED)),
    RUNNING,
    EVICTED,
    READMITTED,
]


def tell(chronicle: Chronicle, facts: Facts, now: float) -> list[Event]:
    return chronicle.news(UNIT, facts, T0 + now)


@pytest.mark.parametrize("death", range(len(LIFE) + 1))
def test_a_second_driver_goes_on_where_the_first_ended(death: int):
    alone, journal = Chronicle(), []
    whole = [event for second, facts in enumerate(LIFE) for event in tell(alone, facts, second)]
    chronicle = Chronicle()
    for second, facts in enumerate(LIFE):
        if second == death:
            chronicle = Chronicle(journal)
        journal += tell(chronicle, facts, second)
        journal += tell(chronicle, facts, second)  # a second look tells nothing
    assert [(e.kind, e.attempt) for e in journal] == [(e.kind, e.attempt) for e in whole]
    assert [kind for kind, _ in [(e.kind, e.attempt) for e in whole]] == [
        "created", "queued", "reserved", "admitted", "running", "evicted", "reserved", "admitted", "running",
    ]  # fmt: skip


def test_what_is_seen_as_it_happens_has_our_time_and_what_was_missed_the_servers():
    now = T0 + 4.4
    told = Chronicle().news(UNIT, RUNNING, now)
    assert [event.at for event in told] == [T0, T0 + 1, T0 + 2, T0 + 2, now]


def test_a_job_that_is_made_again_counts_its_attempts_on():
    chronicle = Chronicle()
    first = tell(chronicle, RUNNING, 4)
    failed = Facts(job(condition("Failed", second=8)), RUNNING.workload, RUNNING.pods)
    first.append(chronicle.end(UNIT, failed, "failed", T0 + 8))
    other = Facts(job(uid="u2"), workload(RESERVED, ADMITTED), (pod("Running", name="p9", born=30, began=31),))
    for chronicler in (chronicle, Chronicle(first)):
        second = tell(chronicler, other, 31)
        assert [(e.kind, e.attempt) for e in second] == [
            ("created", 0),
            ("queued", 1),
            ("reserved", 2),
            ("admitted", 2),
            ("running", 2),
        ]
        assert not chronicler.ended(UNIT)


def test_an_end_is_known():
    chronicle = Chronicle()
    assert not chronicle.knows(UNIT)
    tell(chronicle, RUNNING, 4)
    assert (chronicle.knows(UNIT), chronicle.ended(UNIT)) == (True, False)
    complete = Facts(job(condition("Complete", second=50)), RUNNING.workload, RUNNING.pods)
    assert chronicle.end(UNIT, complete, "finished", T0 + 100.0).at == T0 + 50
    assert chronicle.ended(UNIT)


def test_the_end_of_one_task_is_not_the_end_of_its_unit():
    chronicle = Chronicle()
    tell(chronicle, RUNNING, 4)
    assert chronicle.end(UNIT, RUNNING, "finished", T0 + 6.0, stem="a").stem == "a"
    assert not chronicle.ended(UNIT)


def test_pausing_is_told_each_time():
    chronicle, journal = Chronicle(), []
    paused, queued = Facts(job(), workload(active=False)), Facts(job(), workload())
    for facts in (queued, paused, paused, queued, paused):
        journal += tell(chronicle, facts, 1)
    assert [e.kind for e in journal] == ["created", "queued", "paused", "resumed", "paused"]
    assert [e.kind for e in tell(Chronicle(journal), queued, 2)] == ["resumed"]
