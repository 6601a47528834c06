"""Why Jobs would wait for ever: each cause with its object and the way out. Real objects are judged in tests/kube."""

from __future__ import annotations

import pytest

from epp_batch.preflight.checks import ClusterInventory, preflight
from epp_batch.preflight.fit import compute_quota_fits
from epp_batch.spec import Placement
from tests.unit.epp_batch.conftest import cluster_queue, flavor, local_queue, node, run, unit


def problems(inventory, of=None, **changes):
    return [(problem.path, problem.message) for problem in preflight(of or run(), **{**inventory, **changes})]


def only(found, path, *words):
    ((where, message),) = found
    assert where == path
    for word in words:
        assert word in message


def test_nothing_is_wrong(inventory):
    assert problems(inventory) == []


def test_what_may_not_be_read_is_not_judged(inventory):
    hidden = dict.fromkeys(("cluster_queues", "flavors", "priority_classes", "device_classes", "nodes"))
    assert (
        problems(inventory, run(placements={"*": Placement(accelerator="dra:3g.20gb", priority_class="x")}), **hidden)
        == []
    )


def test_no_such_local_queue(inventory):
    missing = problems(inventory, run(queue="other"))
    only(missing, "LocalQueue whisper/other", "does not exist", "there is lq", "--queue")
    only(problems(inventory, local_queues=[]), "LocalQueue whisper/lq", "it has none", "epp-batch queues")


def test_a_namespace_that_is_not_there_is_all_that_is_said(inventory):
    only(problems(inventory, local_queues=[], namespace_exists=False), "Namespace whisper", "does not exist")


def test_stopped_queues(inventory):
    only(problems(inventory, local_queues=[local_queue(stopPolicy="Hold")]), "LocalQueue whisper/lq", "Hold")
    drained = cluster_queue(stopPolicy="HoldAndDrain")
    only(problems(inventory, cluster_queues=[drained]), "ClusterQueue cq", "HoldAndDrain", "None")


def test_a_local_queue_before_nothing(inventory):
    only(problems(inventory, cluster_queues=[]), "LocalQueue whisper/lq", "ClusterQueue cq, which does not exist")


def test_an_inactive_cluster_queue(inventory):
    status = {"conditions": [{"type": "Active", "status": "False", "reason": "CheckNotFound", "message": "no check"}]}
    only(
        problems(inventory, cluster_queues=[cluster_queue(status=status)]), "ClusterQueue cq", "CheckNotFound: no check"
    )


def test_a_missing_flavor_is_told_once_though_the_queue_is_inactive_for_it(inventory):
    status = {"conditions": [{"type": "Active", "status": "False", "reason": "FlavorNotFound"}]}
    found = problems(inventory, flavors=[], cluster_queues=[cluster_queue(status=status)])
    only(found, "ClusterQueue cq", "ResourceFlavor gpu, which does not exist")


@pytest.mark.parametrize(
    ("selector", "taken"),
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
def test_namespaces_that_a_cluster_queue_takes(inventory, selector, taken):
    found = problems(inventory, cluster_queues=[cluster_queue(namespaceSelector=selector)])
    if taken:
        assert found == []
    else:
        only(found, "ClusterQueue cq", "does not take namespace whisper")


def test_a_resource_that_is_not_covered(inventory):
    sliced = run(placements={"*": Placement(accelerator="mig:1g.5gb")})
    only(
        problems(inventory, sliced),
        "ClusterQueue cq",
        "does not cover nvidia.com/mig-1g.5gb",
        "model large",
        "--accelerator",
    )
    greedy = run(placements={"*": Placement(cpu="4")})
    only(problems(inventory, greedy), "ClusterQueue cq", "does not cover cpu", "leave out --cpu", "--cover cpu=")


def test_a_request_above_all_that_there_could_ever_be(inventory):
    big = run(placements={"large": Placement(accelerator="gpu:9")})
    only(problems(inventory, big), "ClusterQueue cq", "can never admit model large", "9 nvidia.com/gpu of at most 8")
    lender = cluster_queue("other", cohortName="c")
    borrower = cluster_queue(cohortName="c")
    big_node = [node(**{"nvidia.com/gpu": "16"})]
    assert problems(inventory, big, cluster_queues=[borrower, lender], nodes=big_node) == []


def test_one_flavor_has_to_hold_it_all(inventory):
    halves = cluster_queue(flavors={"gpu": {"nvidia.com/gpu": 8, "cpu": 0}, "cpu": {"nvidia.com/gpu": 0, "cpu": 64}})
    found = problems(
        inventory, run(placements={"*": Placement(cpu="2")}), cluster_queues=[halves], flavors=[flavor(), flavor("cpu")]
    )
    only(found, "ClusterQueue cq", "flavor gpu would need 2 cpu of at most 0", "flavor cpu would need 1 nvidia.com/gpu")


def test_flavors_that_kueue_passes_over(inventory):
    taint = {"key": "gpu", "value": "x", "effect": "NoSchedule"}
    tainted = flavor(nodeTaints=[taint])
    only(problems(inventory, flavors=[tainted]), "ClusterQueue cq", "taint gpu, which nothing tolerates")
    tolerated = flavor(nodeTaints=[taint], tolerations=[{"key": "gpu", "operator": "Exists"}])
    assert problems(inventory, flavors=[tolerated]) == []
    elsewhere = run(node_selector={"zone": "b"})
    only(
        problems(inventory, elsewhere, flavors=[flavor(nodeLabels={"zone": "a"})]),
        "ClusterQueue cq",
        "zone=a, but --node-selector wants b",
    )


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (node(**{"nvidia.com/gpu": "8"}), "no node has zone=a"),
        (node(labels={"zone": "a"}, **{"nvidia.com/gpu": "0"}), "at most 0 nvidia.com/gpu"),
        (node(labels={"zone": "a"}, unschedulable=True, **{"nvidia.com/gpu": "8"}), "cordoned or tainted"),
        (
            node(labels={"zone": "a"}, taints=[{"key": "gpu", "effect": "NoSchedule"}], **{"nvidia.com/gpu": "8"}),
            "cordoned or tainted",
        ),
    ],
)
def test_no_node_could_take_it(inventory, there, why):
    only(problems(inventory, nodes=[there], flavors=[flavor(nodeLabels={"zone": "a"})]), "nodes", "model large", why)


def test_nodes_that_may_still_come_or_recover_are_no_problem(inventory):
    checked = cluster_queue(admissionChecksStrategy={"admissionChecks": [{"name": "provision"}]})
    assert problems(inventory, nodes=[], cluster_queues=[checked]) == []
    sick = node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}], **{"nvidia.com/gpu": "8"})
    assert problems(inventory, nodes=[sick]) == []


def test_slices_under_the_names_of_the_accelerator_slicer(inventory):
    sliced = run(placements={"*": Placement(accelerator="mig:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"nvidia.com/mig-1g.5gb": 56}})
    slicer = node(**{"mig.das.com/mig-1g.5gb": "56"})
    assert problems(inventory, sliced, cluster_queues=[queue], nodes=[slicer]) == []


def test_classes_and_claims_that_are_not_there(inventory):
    found = problems(inventory, run(placements={"*": Placement(priority_class="urgent")}))
    only(found, "WorkloadPriorityClass urgent", "does not exist; there is high")
    claimed = run(placements={"*": Placement(accelerator="dra:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"epp-batch/gpu-memory": "320Gi"}})
    only(
        problems(inventory, claimed, cluster_queues=[queue], device_classes=[]),
        "DeviceClass mig.nvidia.com",
        "DRA driver",
    )
    only(problems(inventory, volume_claims=[]), "PersistentVolumeClaim whisper/audio", "does not exist")
    assert problems(inventory, volume_claims=[{"metadata": {"name": "audio"}, "status": {"phase": "Bound"}}]) == []


def published(*profiles):
    """A ResourceSlice; an empty profile is a whole GPU."""
    devices = [{"attributes": {"profile": {"string": profile}} if profile else {}} for profile in profiles]
    return {"spec": {"driver": "gpu.nvidia.com", "devices": devices}}


def test_devices_that_no_node_publishes(inventory):
    claimed = run(placements={"*": Placement(accelerator="dra:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"epp-batch/gpu-memory": "320Gi"}})
    found = problems(
        inventory, claimed, cluster_queues=[queue], slices=[published("", "3g.20gb"), published("7g.40gb")]
    )
    only(found, "ResourceSlices", "no node publishes a 1g.5gb for model large", "there is 3g.20gb, 7g.40gb, whole GPU")
    assert problems(inventory, claimed, cluster_queues=[queue], slices=[published("1g.5gb")]) == []
    assert problems(inventory, slices=[]) == []


def test_each_problem_is_told_once_and_all_together(inventory):
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


def test_how_a_run_fits():
    usage = [{"name": "gpu", "resources": [{"name": "nvidia.com/gpu", "total": "3"}]}]
    queue = cluster_queue(status={"flavorsReservation": usage})
    units = [unit(f"r-{number}") for number in range(20)]
    (fit,) = compute_quota_fits(
        run(*units, placements={"*": Placement(accelerator="gpu:3")}), ClusterInventory([local_queue()], [queue])
    )
    assert (fit.flavor, fit.resource, fit.amount_per_job, fit.jobs, fit.potential_available, fit.used_now) == (
        "gpu",
        "nvidia.com/gpu",
        3,
        20,
        8,
        3,
    )
    assert fit.max_parallel_jobs == 2
