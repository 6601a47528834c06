"""Nodes and devices that could hold a pod."""

from __future__ import annotations

import pytest

from epp_batch.preflight.nodes import is_tolerated
from epp_batch.spec import Placement
from tests.unit.epp_batch.conftest import cluster_queue, flavor, node, run
from tests.unit.epp_batch.preflight.conftest import assert_problem, problems


@pytest.mark.parametrize(
    ("unsuitable", "why"),
    [
        (node(**{"nvidia.com/gpu": "8"}), "no node has zone=a"),
        (node(labels={"zone": "a"}, **{"nvidia.com/gpu": "0"}), "at most 0 nvidia.com/gpu"),
        (
            node(labels={"zone": "a"}, unschedulable=True, **{"nvidia.com/gpu": "8"}),
            "cordoned or have untolerated taints",
        ),
        (
            node(labels={"zone": "a"}, taints=[{"key": "gpu", "effect": "NoSchedule"}], **{"nvidia.com/gpu": "8"}),
            "cordoned or have untolerated taints",
        ),
    ],
)
def test_no_suitable_node(inventory, unsuitable, why):
    assert_problem(
        problems(inventory, nodes=[unsuitable], flavors=[flavor(nodeLabels={"zone": "a"})]), "nodes", "model large", why
    )


def test_provisioned_or_unhealthy_nodes_are_no_problem(inventory):
    checked = cluster_queue(admissionChecksStrategy={"admissionChecks": [{"name": "provision"}]})
    assert problems(inventory, nodes=[], cluster_queues=[checked]) == []
    sick = node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}], **{"nvidia.com/gpu": "8"})
    assert problems(inventory, nodes=[sick]) == []


def test_slices_advertised_by_the_accelerator_slicer(inventory):
    sliced = run(placements={"*": Placement(accelerator="mig:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"nvidia.com/mig-1g.5gb": 56}})
    slicer = node(**{"mig.das.com/mig-1g.5gb": "56"})
    assert problems(inventory, sliced, cluster_queues=[queue], nodes=[slicer]) == []


def resource_slice(*profiles):
    """A ResourceSlice; an empty profile is a whole GPU."""
    devices = [{"attributes": {"profile": {"string": profile}} if profile else {}} for profile in profiles]
    return {"spec": {"driver": "gpu.nvidia.com", "devices": devices}}


def test_dra_device_that_no_node_publishes(inventory):
    claimed = run(placements={"*": Placement(accelerator="dra:1g.5gb")})
    queue = cluster_queue(flavors={"gpu": {"epp-batch/gpu-memory": "320Gi"}})
    found = problems(
        inventory, claimed, cluster_queues=[queue], slices=[resource_slice("", "3g.20gb"), resource_slice("7g.40gb")]
    )
    assert_problem(
        found, "ResourceSlices", "no node publishes a 1g.5gb for model large", "published: 3g.20gb, 7g.40gb, whole GPU"
    )
    assert problems(inventory, claimed, cluster_queues=[queue], slices=[resource_slice("1g.5gb")]) == []
    assert problems(inventory, slices=[]) == []


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "gpu", "value": "x"}, True),
        ({"key": "gpu", "value": "x", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "gpu"}, False),
        ({"key": "gpu", "value": "y"}, False),
        ({"key": "cpu", "operator": "Exists"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations_match_as_in_kubernetes(toleration, tolerated):
    taint = {"key": "gpu", "value": "x", "effect": "NoSchedule"}
    assert is_tolerated(taint, [toleration]) is tolerated
    assert not is_tolerated(taint, [])
