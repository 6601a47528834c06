"""Preflight problems: each cause with its object and what to do. With real objects and Kueue: tests/kube."""

from __future__ import annotations

import pytest

from epp_batch.spec import Placement
from tests.unit.epp_batch.conftest import cluster_queue, flavor, local_queue, node, run, unit
from tests.unit.epp_batch.preflight.conftest import assert_problem, problems


def test_admissible_run_has_no_problems(inventory):
    assert problems(inventory) == []


def test_unreadable_objects_are_not_judged(inventory):
    hidden = dict.fromkeys(("cluster_queues", "flavors", "priority_classes", "device_classes", "nodes"))
    assert (
        problems(inventory, run(placements={"*": Placement(accelerator="dra:3g.20gb", priority_class="x")}), **hidden)
        == []
    )


def test_missing_local_queue(inventory):
    missing = problems(inventory, run(queue="other"))
    assert_problem(missing, "LocalQueue whisper/other", "does not exist", "there is lq", "--queue")
    assert_problem(problems(inventory, local_queues=[]), "LocalQueue whisper/lq", "it has none", "epp-batch queues")


def test_missing_namespace_is_reported_alone(inventory):
    assert_problem(problems(inventory, local_queues=[], namespace_exists=False), "Namespace whisper", "does not exist")


def test_stopped_queues(inventory):
    assert_problem(problems(inventory, local_queues=[local_queue(stopPolicy="Hold")]), "LocalQueue whisper/lq", "Hold")
    drained = cluster_queue(stopPolicy="HoldAndDrain")
    assert_problem(problems(inventory, cluster_queues=[drained]), "ClusterQueue cq", "HoldAndDrain", "None")


def test_local_queue_of_a_missing_cluster_queue(inventory):
    assert_problem(
        problems(inventory, cluster_queues=[]), "LocalQueue whisper/lq", "ClusterQueue cq, which does not exist"
    )


def test_inactive_cluster_queue(inventory):
    status = {"conditions": [{"type": "Active", "status": "False", "reason": "CheckNotFound", "message": "no check"}]}
    assert_problem(
        problems(inventory, cluster_queues=[cluster_queue(status=status)]), "ClusterQueue cq", "CheckNotFound: no check"
    )


def test_missing_flavor_hides_the_inactive_condition(inventory):
    status = {"conditions": [{"type": "Active", "status": "False", "reason": "FlavorNotFound"}]}
    found = problems(inventory, flavors=[], cluster_queues=[cluster_queue(status=status)])
    assert_problem(found, "ClusterQueue cq", "ResourceFlavor gpu, which does not exist")


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"kubernetes.io/metadata.name": "whisper"}}, True),
        ({"matchLabels": {"kubernetes.io/metadata.name": "other"}}, False),
        ({"matchLabels": {"team": "x"}}, True),
        ({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["a"]}]}, True),
        (
            {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["whisper"]}]},
            False,
        ),
    ],
)
def test_namespace_selector(inventory, selector, selected):
    found = problems(inventory, cluster_queues=[cluster_queue(namespaceSelector=selector)])
    if selected:
        assert found == []
    else:
        assert_problem(found, "ClusterQueue cq", "does not select namespace whisper")


def test_uncovered_resource(inventory):
    sliced = run(placements={"*": Placement(accelerator="mig:1g.5gb")})
    assert_problem(
        problems(inventory, sliced),
        "ClusterQueue cq",
        "does not cover nvidia.com/mig-1g.5gb",
        "model large",
        "--accelerator",
    )
    greedy = run(placements={"*": Placement(cpu="4")})
    assert_problem(problems(inventory, greedy), "ClusterQueue cq", "does not cover cpu", "omit --cpu", "--cover cpu=")


def test_request_above_the_potential_quota(inventory):
    big = run(placements={"large": Placement(accelerator="gpu:9")})
    assert_problem(
        problems(inventory, big), "ClusterQueue cq", "can never admit model large", "9 nvidia.com/gpu of at most 8"
    )
    lender = cluster_queue("other", cohortName="c")
    borrower = cluster_queue(cohortName="c")
    big_node = [node(**{"nvidia.com/gpu": "16"})]
    assert problems(inventory, big, cluster_queues=[borrower, lender], nodes=big_node) == []


def test_one_flavor_must_hold_the_whole_request(inventory):
    halves = cluster_queue(flavors={"gpu": {"nvidia.com/gpu": 8, "cpu": 0}, "cpu": {"nvidia.com/gpu": 0, "cpu": 64}})
    found = problems(
        inventory, run(placements={"*": Placement(cpu="2")}), cluster_queues=[halves], flavors=[flavor(), flavor("cpu")]
    )
    assert_problem(
        found, "ClusterQueue cq", "flavor gpu would need 2 cpu of at most 0", "flavor cpu would need 1 nvidia.com/gpu"
    )


def test_flavor_with_untolerated_taint_or_other_labels(inventory):
    taint = {"key": "gpu", "value": "x", "effect": "NoSchedule"}
    tainted = flavor(nodeTaints=[taint])
    assert_problem(problems(inventory, flavors=[tainted]), "ClusterQueue cq", "taint gpu, which no toleration matches")
    tolerated = flavor(nodeTaints=[taint], tolerations=[{"key": "gpu", "operator": "Exists"}])
    assert problems(inventory, flavors=[tolerated]) == []
    elsewhere = run(node_selector={"zone": "b"})
    assert_problem(
        problems(inventory, elsewhere, flavors=[flavor(nodeLabels={"zone": "a"})]),
        "ClusterQueue cq",
        "zone=a, but --node-selector requires b",
    )


def test_missing_classes_and_claims(inventory):
    found = problems(inventory, run(placements={"*": Placement(priority_class="urgent")}))
    assert_problem(found, "WorkloadPriorityClass urgent", "does not exist; there is high")
    claimed = run(placements={"*": Placement(accelerator="dra:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"epp-batch/gpu-memory": "320Gi"}})
    assert_problem(
        problems(inventory, claimed, cluster_queues=[queue], device_classes=[]),
        "DeviceClass mig.nvidia.com",
        "DRA driver",
    )
    assert_problem(problems(inventory, volume_claims=[]), "PersistentVolumeClaim whisper/audio", "does not exist")
    assert problems(inventory, volume_claims=[{"metadata": {"name": "audio"}, "status": {"phase": "Bound"}}]) == []


def test_all_problems_are_listed_once(inventory):
    two = run(
        unit("r-1", "large"),
        unit("r-2", "medium"),
        unit("r-3", "medium"),
        placements={"medium": Placement(queue="none"), "large": Placement(accelerator="gpu:9", priority_class="x")},
    )
    assert [path for path, _ in problems(inventory, two)] == [
        "ClusterQueue cq",
        "WorkloadPriorityClass x",
        "LocalQueue whisper/none",
    ]
