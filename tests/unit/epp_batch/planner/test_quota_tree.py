"""Quota trees: what may be borrowed, lent and kept."""

from __future__ import annotations

from epp_batch.planner.cluster_model import Cohort, FlavorQuotas, ResourceGroup, ResourceQuota
from epp_batch.planner.quota_tree import build_quota_tree
from tests.unit.epp_batch.planner.builders import GPU, gpu_cluster_queue, kueue_objects

CELL = ("f", GPU)


def test_a_queue_of_its_own_has_its_quota():
    nodes = build_quota_tree(kueue_objects(gpu_cluster_queue("q", 4)))
    nodes["q"].add_usage(CELL, 3)
    assert nodes["q"].available(CELL) == 1
    assert nodes["q"].potential_available(CELL) == 4


def test_queues_of_a_cohort_share_what_is_free():
    nodes = build_quota_tree(
        kueue_objects(gpu_cluster_queue("a", 4, cohort_name="c"), gpu_cluster_queue("b", 4, cohort_name="c"))
    )
    nodes["a"].add_usage(CELL, 6)
    assert nodes["a"].available(CELL) == nodes["b"].available(CELL) == 2
    assert nodes["a"].exceeds_nominal_in_resources({CELL})
    assert not nodes["b"].exceeds_nominal_in_resources({CELL})
    nodes["a"].remove_usage(CELL, 6)
    assert nodes["b"].available(CELL) == 8


def test_a_borrowing_limit_of_nothing_keeps_a_queue_to_its_own():
    nodes = build_quota_tree(
        kueue_objects(
            gpu_cluster_queue("a", 4, cohort_name="c", borrowing=0), gpu_cluster_queue("b", 4, cohort_name="c")
        )
    )
    assert nodes["a"].potential_available(CELL) == 4
    assert nodes["b"].potential_available(CELL) == 8
    nodes["b"].add_usage(CELL, 6)
    assert nodes["a"].available(CELL) == 2


def test_a_lending_limit_keeps_some_at_home():
    nodes = build_quota_tree(
        kueue_objects(gpu_cluster_queue("a", 4, cohort_name="c", lending=1), gpu_cluster_queue("b", 4, cohort_name="c"))
    )
    assert nodes["b"].potential_available(CELL) == 5
    nodes["b"].add_usage(CELL, 5)
    assert nodes["b"].available(CELL) == 0
    assert nodes["a"].available(CELL) == 3
    nodes["a"].add_usage(CELL, 3)
    assert nodes["a"].available(CELL) == 0
    nodes["a"].remove_usage(CELL, 3)
    nodes["b"].remove_usage(CELL, 5)
    assert nodes["a"].available(CELL) == 8


def test_a_cohort_has_quota_of_its_own_and_hangs_under_another():
    group = ResourceGroup((GPU,), (FlavorQuotas("f", {GPU: ResourceQuota(2)}),))
    cohorts = (Cohort(name="inner", parent_name="outer"), Cohort(name="outer", resource_groups=(group,)))
    nodes = build_quota_tree(
        kueue_objects(
            gpu_cluster_queue("a", 1, cohort_name="inner"),
            gpu_cluster_queue("b", 4, cohort_name="outer"),
            cohorts=cohorts,
        )
    )
    assert nodes["a"].potential_available(CELL) == nodes["b"].potential_available(CELL) == 7
    assert nodes["a"].find_height_of_lowest_subtree_that_fits(CELL, 1) == (0, True)
    assert nodes["a"].find_height_of_lowest_subtree_that_fits(CELL, 2) == (2, False)
    assert nodes["b"].find_height_of_lowest_subtree_that_fits(CELL, 5) == (2, False)
