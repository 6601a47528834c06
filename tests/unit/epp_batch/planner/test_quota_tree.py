"""Quota trees: borrowing, lending limits, local quota."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.planner.cluster_model import Cohort, FlavorQuotas, ResourceGroup, ResourceQuota
from epp_batch.planner.quota_tree import build_quota_tree
from tests.unit.epp_batch.planner.builders import GPU, gpu_cluster_queue, kueue_objects

FLAVOR_RESOURCE = ("f", GPU)


def test_a_cluster_queue_without_cohort_has_its_nominal_quota():
    nodes = build_quota_tree(kueue_objects(gpu_cluster_queue("q", 4)))
    nodes["q"].add_usage(FLAVOR_RESOURCE, 3)
    assert nodes["q"].available(FLAVOR_RESOURCE) == 1
    assert nodes["q"].potential_available(FLAVOR_RESOURCE) == 4


def test_cluster_queues_of_a_cohort_share_unused_quota():
    nodes = build_quota_tree(
        kueue_objects(gpu_cluster_queue("a", 4, cohort_name="c"), gpu_cluster_queue("b", 4, cohort_name="c"))
    )
    nodes["a"].add_usage(FLAVOR_RESOURCE, 6)
    assert nodes["a"].available(FLAVOR_RESOURCE) == nodes["b"].available(FLAVOR_RESOURCE) == 2
    assert not nodes["a"].is_within_nominal_in_resources({FLAVOR_RESOURCE})
    assert nodes["b"].is_within_nominal_in_resources({FLAVOR_RESOURCE})
    nodes["a"].remove_usage(FLAVOR_RESOURCE, 6)
    assert nodes["b"].available(FLAVOR_RESOURCE) == 8


def test_borrowing_limit_0_limits_a_cluster_queue_to_nominal_quota():
    nodes = build_quota_tree(
        kueue_objects(
            gpu_cluster_queue("a", 4, cohort_name="c", borrowing_limit=0), gpu_cluster_queue("b", 4, cohort_name="c")
        )
    )
    assert nodes["a"].potential_available(FLAVOR_RESOURCE) == 4
    assert nodes["b"].potential_available(FLAVOR_RESOURCE) == 8
    nodes["b"].add_usage(FLAVOR_RESOURCE, 6)
    assert nodes["a"].available(FLAVOR_RESOURCE) == 2


def test_a_lending_limit_keeps_local_quota():
    nodes = build_quota_tree(
        kueue_objects(
            gpu_cluster_queue("a", 4, cohort_name="c", lending_limit=1), gpu_cluster_queue("b", 4, cohort_name="c")
        )
    )
    assert nodes["b"].potential_available(FLAVOR_RESOURCE) == 5
    nodes["b"].add_usage(FLAVOR_RESOURCE, 5)
    assert nodes["b"].available(FLAVOR_RESOURCE) == 0
    assert nodes["a"].available(FLAVOR_RESOURCE) == 3
    nodes["a"].add_usage(FLAVOR_RESOURCE, 3)
    assert nodes["a"].available(FLAVOR_RESOURCE) == 0
    nodes["a"].remove_usage(FLAVOR_RESOURCE, 3)
    nodes["b"].remove_usage(FLAVOR_RESOURCE, 5)
    assert nodes["a"].available(FLAVOR_RESOURCE) == 8


def test_a_cohort_has_quota_and_a_parent():
    group = ResourceGroup((GPU,), (FlavorQuotas("f", {GPU: ResourceQuota(2)}),))
    cohorts = (Cohort(name="inner", parent_name="outer"), Cohort(name="outer", resource_groups=(group,)))
    nodes = build_quota_tree(
        kueue_objects(
            gpu_cluster_queue("a", 1, cohort_name="inner"),
            gpu_cluster_queue("b", 4, cohort_name="outer"),
            cohorts=cohorts,
        )
    )
    assert nodes["a"].potential_available(FLAVOR_RESOURCE) == nodes["b"].potential_available(FLAVOR_RESOURCE) == 7
    assert nodes["a"].find_height_of_lowest_subtree_that_fits(FLAVOR_RESOURCE, 1) == (0, True)
    assert nodes["a"].find_height_of_lowest_subtree_that_fits(FLAVOR_RESOURCE, 2) == (2, False)
    assert nodes["b"].find_height_of_lowest_subtree_that_fits(FLAVOR_RESOURCE, 5) == (2, False)


@pytest.mark.parametrize("parents", [{"c": "c"}, {"c": "d", "d": "c"}, {"c": "d", "d": "e", "e": "d"}])
def test_cohorts_that_are_their_own_ancestors_are_rejected(parents):
    cohorts = tuple(Cohort(name=name, parent_name=parent) for name, parent in parents.items())
    with pytest.raises(InputError, match="is its own ancestor"):
        build_quota_tree(kueue_objects(gpu_cluster_queue("q", 1, cohort_name="c"), cohorts=cohorts))
