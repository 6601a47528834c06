"""Quota trees: what may be borrowed, lent and kept."""

from __future__ import annotations

from epp_batch.planner.quota_tree import tree
from epp_batch.planner.world import Cohort, Group, Offer, Quota
from tests.unit.epp_batch.planner.builders import GPU, kueue, queue

CELL = ("f", GPU)


def test_a_queue_of_its_own_has_its_quota():
    nodes = tree(kueue(queue("q", 4)))
    nodes["q"].add(CELL, 3)
    assert nodes["q"].available(CELL) == 1
    assert nodes["q"].potential(CELL) == 4


def test_queues_of_a_cohort_share_what_is_free():
    nodes = tree(kueue(queue("a", 4, cohort="c"), queue("b", 4, cohort="c")))
    nodes["a"].add(CELL, 6)
    assert nodes["a"].available(CELL) == nodes["b"].available(CELL) == 2
    assert nodes["a"].exceeds({CELL})
    assert not nodes["b"].exceeds({CELL})
    nodes["a"].remove(CELL, 6)
    assert nodes["b"].available(CELL) == 8


def test_a_borrowing_limit_of_nothing_keeps_a_queue_to_its_own():
    nodes = tree(kueue(queue("a", 4, cohort="c", borrowing=0), queue("b", 4, cohort="c")))
    assert nodes["a"].potential(CELL) == 4
    assert nodes["b"].potential(CELL) == 8
    nodes["b"].add(CELL, 6)
    assert nodes["a"].available(CELL) == 2


def test_a_lending_limit_keeps_some_at_home():
    nodes = tree(kueue(queue("a", 4, cohort="c", lending=1), queue("b", 4, cohort="c")))
    assert nodes["b"].potential(CELL) == 5
    nodes["b"].add(CELL, 5)
    assert nodes["b"].available(CELL) == 0
    assert nodes["a"].available(CELL) == 3
    nodes["a"].add(CELL, 3)
    assert nodes["a"].available(CELL) == 0
    nodes["a"].remove(CELL, 3)
    nodes["b"].remove(CELL, 5)
    assert nodes["a"].available(CELL) == 8


def test_a_cohort_has_quota_of_its_own_and_hangs_under_another():
    group = Group((GPU,), (Offer("f", {GPU: Quota(2)}),))
    cohorts = (Cohort(name="inner", parent="outer"), Cohort(name="outer", groups=(group,)))
    nodes = tree(kueue(queue("a", 1, cohort="inner"), queue("b", 4, cohort="outer"), cohorts=cohorts))
    assert nodes["a"].potential(CELL) == nodes["b"].potential(CELL) == 7
    assert nodes["a"].distance(CELL, 1) == (0, True)
    assert nodes["a"].distance(CELL, 2) == (2, False)
    assert nodes["b"].distance(CELL, 5) == (2, False)
