"""Quota arithmetic, by examples and against the planner's. Against real Kueue: tests/kube."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp_batch.manifests.accelerators import GPU_MEMORY_RESOURCE, MIG_SLOTS_RESOURCE
from epp_batch.planner.objects import build_cluster_model
from epp_batch.planner.quota_tree import build_quota_tree
from epp_batch.preflight.quota import CohortQuotas, compute_pod_usage
from epp_batch.spec import Placement
from tests.unit.epp_batch.conftest import cluster_queue

GPU = "nvidia.com/gpu"


def queue(name, nominal, cohort="all", **limits):
    return cluster_queue(name, {"gpu": {GPU: {"nominalQuota": str(nominal), **limits}}}, cohortName=cohort)


def potential(name, *queues, cohorts=()):
    return CohortQuotas(queues, cohorts).potential_available(name, "gpu", GPU)


def test_queue_without_cohort_has_its_nominal_quota():
    assert potential("a", cluster_queue("a")) == 8
    assert CohortQuotas([cluster_queue("a")]).potential_available("a", "gpu", "other") == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (queue("a", 4), queue("b", 4), 8),
        (queue("a", 4, borrowingLimit="0"), queue("b", 4), 4),
        (queue("a", 4, borrowingLimit="1"), queue("b", 4), 5),
        (queue("a", 4), queue("b", 4, lendingLimit="1"), 5),
        (queue("a", 4, lendingLimit="0"), queue("b", 4, lendingLimit="0"), 4),
        (queue("a", 4), queue("b", 4, cohort="elsewhere"), 4),
    ],
)
def test_potential_with_borrowing_and_lending_limits(one, other, expected):
    assert potential("a", one, other) == expected


def cohort(name, parent=None, nominal=None):
    spec = {"parentName": parent} if parent else {}
    if nominal is not None:
        spec["resourceGroups"] = cluster_queue(flavors={"gpu": {GPU: nominal}})["spec"]["resourceGroups"]
    return {"metadata": {"name": name}, "spec": spec}


def test_cohorts_add_their_own_and_their_parents_quota():
    assert potential("a", queue("a", 1), cohorts=[cohort("all", nominal=3)]) == 4
    tree = [cohort("all", "root"), cohort("others", "root", nominal=2), cohort("root", nominal=5)]
    assert potential("a", queue("a", 1), queue("b", 1, cohort="others"), cohorts=tree) == 9


def test_cycle_of_cohorts_terminates():
    circle = [cohort("all", "other"), cohort("other", "all")]
    assert potential("a", queue("a", 1), cohorts=circle) >= 1


limits = st.one_of(st.none(), st.integers(0, 6))


@st.composite
def trees(draw):
    """Random forests of cohorts, with ClusterQueues in them."""
    cohorts = []
    for number in range(draw(st.integers(1, 4))):
        parent = draw(st.sampled_from([None, *(f"c{above}" for above in range(number))]))
        cohorts.append(cohort(f"c{number}", parent, draw(limits)))
    queues = []
    for number in range(draw(st.integers(1, 4))):
        found = {"borrowingLimit": draw(limits), "lendingLimit": draw(limits)}
        known = {name: str(value) for name, value in found.items() if value is not None}
        queues.append(
            queue(f"q{number}", draw(st.integers(0, 6)), draw(st.sampled_from(cohorts))["metadata"]["name"], **known)
        )
    return queues, cohorts


@given(trees())
def test_potential_equals_the_planners(tree):
    queues, cohorts = tree
    kinds = [{**one, "kind": "ClusterQueue"} for one in queues] + [{**one, "kind": "Cohort"} for one in cohorts]
    nodes = build_quota_tree(build_cluster_model(kinds).kueue)
    for one in queues:
        name = one["metadata"]["name"]
        assert CohortQuotas(queues, cohorts).potential_available(name, "gpu", GPU) == nodes[name].potential_available(
            ("gpu", GPU)
        )


def usage(accelerator, covered, configuration=None, **more):
    return compute_pod_usage(
        Placement(accelerator=accelerator, **more), cluster_queue(flavors={"f": covered}), configuration
    )


def test_usage_without_configuration_is_what_the_queue_covers():
    assert usage("mig:3g.20gb", {"nvidia.com/mig-3g.20gb": 1}) == {"nvidia.com/mig-3g.20gb": 1}
    assert usage("mig:3g.20gb", {MIG_SLOTS_RESOURCE: 64}) == {MIG_SLOTS_RESOURCE: 4}
    assert usage("mig:3g.20gb", {GPU: 8}) == {"nvidia.com/mig-3g.20gb": 1}
    assert usage("dra:3g.20gb", {GPU_MEMORY_RESOURCE: "320Gi"}) == {GPU_MEMORY_RESOURCE: 20 * 2**30}
    assert usage("gpu", {GPU: 8, "pods": 10}, cpu="500m", memory="1Gi") == {
        GPU: 1,
        "cpu": Fraction(1, 2),
        "memory": 2**30,
        "pods": 1,
    }


@pytest.mark.parametrize("name", ["gpu.memory", "example.com/credits"])
def test_covered_resources_of_unknown_meaning_are_not_judged(name):
    assert usage("mig:3g.20gb", {name: 64}) == {}
    assert usage("dra:3g.20gb", {name: 64, "cpu": 8}, cpu="2") == {"cpu": 2}


def test_usage_by_the_managers_configuration():
    rule = {"input": "nvidia.com/mig-3g.20gb", "strategy": "Replace", "outputs": {"x/memory": "20Gi"}}
    replaced = {"resources": {"transformations": [rule]}}
    assert usage("mig:3g.20gb", {MIG_SLOTS_RESOURCE: 64}, replaced) == {"x/memory": 20 * 2**30}
    kept = {"resources": {"transformations": [{**rule, "strategy": "Retain"}]}}
    assert usage("mig:3g.20gb", {}, kept) == {"nvidia.com/mig-3g.20gb": 1, "x/memory": 20 * 2**30}
    assert usage("gpu", {GPU: 8}, {"resources": {"excludeResourcePrefixes": ["cpu"]}}, cpu="2") == {GPU: 1}
    assert usage("gpu", {GPU: 8}, {"resources": {"quotaCheckStrategy": "IgnoreUndeclared"}}, cpu="2") == {GPU: 1}


def test_excluded_prefixes_apply_before_transformations_as_in_kueue():
    rule = {"input": "nvidia.com/mig-3g.20gb", "strategy": "Replace", "outputs": {"x/memory": "20Gi"}}
    output_excluded = {"resources": {"transformations": [rule], "excludeResourcePrefixes": ["x/"]}}
    assert usage("mig:3g.20gb", {}, output_excluded) == {"x/memory": 20 * 2**30}
    input_excluded = {"resources": {"transformations": [rule], "excludeResourcePrefixes": ["nvidia.com/"]}}
    assert usage("mig:3g.20gb", {}, input_excluded) == {}
    mapping = {"name": "x/gpus", "deviceClassNames": ["mig.nvidia.com"]}
    claimed = {"resources": {"deviceClassMappings": [mapping], "excludeResourcePrefixes": ["x/"]}}
    assert usage("dra:3g.20gb", {}, claimed) == {"x/gpus": 1}


def test_usage_of_mapped_device_classes():
    def mapped(**more):
        mapping = {"name": "x/gpus", "deviceClassNames": ["mig.nvidia.com"], **more}
        return {"resources": {"deviceClassMappings": [mapping]}}

    assert usage("dra:3g.20gb", {}, mapped()) == {"x/gpus": 1}
    assert usage("dra:3g.20gb", {}, mapped(sources=[{"counter": {"name": "memory"}}])) == {"x/gpus": 20 * 2**30}
    (unmapped,) = usage("dra-gpu", {}, mapped())
    assert unmapped == "DeviceClass gpu.nvidia.com (in none of Kueue's deviceClassMappings)"
