"""ClusterModel from Kubernetes manifests."""

from __future__ import annotations

import pytest

from epp_batch.errors import InputError
from epp_batch.manifests import queues
from epp_batch.planner import objects
from epp_batch.planner.cluster_model import ClusterQueuePreemption, DeviceClassMapping, ResourceQuota

NODE = """
apiVersion: v1
kind: Node
metadata:
  name: a
  labels: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB, nvidia.com/gpu.count: "8"}
status:
  allocatable: {cpu: 95500m, memory: 1Ti, LINE}
"""


def node(line: str, **more):
    return objects.build_cluster_model(objects.parse_objects(NODE.replace("LINE", line), "f"), **more).nodes[0]


@pytest.mark.parametrize(
    ("line", "sharing"),
    [
        ('nvidia.com/gpu: "8"', "whole"),
        ('mig.das.com/mig-1g.5gb: "56"', "das"),
        ('nvidia.com/mig-3g.20gb: "16"', "static"),
    ],
)
def test_gpu_sharing_is_detected_from_allocatable(line, sharing):
    found = node(line)
    assert (found.gpu_count, found.gpu_model, found.gpu_sharing) == (8, "A100-40", sharing)
    assert found.allocatable["cpu"] == 95500
    assert found.allocatable["memory"] == 1 << 40


def test_a_node_with_resource_slices_and_without_device_plugin_uses_dra():
    slices = "---\nkind: ResourceSlice\nspec: {nodeName: a}\n"
    found = objects.build_cluster_model(objects.parse_objects(NODE.replace("LINE", "pods: 1") + slices, "f"))
    assert found.nodes[0].gpu_sharing == "dra"
    assert node("pods: 1", sharing="das").gpu_sharing == "das"


@pytest.mark.parametrize("name", sorted(queues.QUEUE_PRESETS))
def test_every_preset_of_epp_batch_queues_is_parsed(name):
    settings = queues.build_preset(name, "batch", 8)
    kueue = objects.build_cluster_model(
        [*queues.build_kueue_objects(settings), *([c] if (c := queues.build_manager_configuration(settings)) else [])]
    ).kueue
    assert set(kueue.local_queues.values()) == {queue.name for queue in kueue.cluster_queues}
    assert all(
        offer.quotas for queue in kueue.cluster_queues for group in queue.resource_groups for offer in group.flavors
    )


def test_presets_paper_b_and_paper_c():
    second = objects.build_cluster_model(queues.build_kueue_objects(queues.build_preset("paper-b", "batch", 8))).kueue
    medium, large = second.cluster_queues
    assert medium.resource_groups[0].flavors[0].quotas == {"nvidia.com/gpu": ResourceQuota(4, 0, 4)}
    assert large.resource_groups[0].flavors[0].quotas == {"nvidia.com/gpu": ResourceQuota(4)}
    assert medium.cohort_name == large.cohort_name == "gpu-cohort"
    third = objects.build_cluster_model(queues.build_kueue_objects(queues.build_preset("paper-c", "batch", 8))).kueue
    assert third.cluster_queues[0].preemption == ClusterQueuePreemption(within_cluster_queue="LowerPriority")
    assert third.priority_classes == {"high-priority": 10_000}


def test_device_class_mappings_and_transformations_come_from_the_configuration():
    dra = queues.build_preset("dra", "batch", 8)
    kueue = objects.build_cluster_model(
        [*queues.build_kueue_objects(dra), queues.build_manager_configuration(dra)]
    ).kueue
    assert kueue.device_class_mappings["mig.nvidia.com"] == DeviceClassMapping(
        "epp-batch/gpu-memory", counts_memory=True
    )
    assert kueue.wait_for_pods_ready.timeout == 600
    text = (
        "kind: ConfigMap\ndata:\n  controller_manager_config.yaml: |\n    apiVersion: config.kueue.x-k8s.io/v1beta2\n"
    )
    text += "    resources: {transformations: [{input: a, strategy: Replace, outputs: {b: 2}}]}\n"
    more = objects.build_cluster_model([*queues.build_kueue_objects(dra), *objects.parse_objects(text, "f")]).kueue
    assert more.transformations[0].outputs == {"b": 2.0}


def test_v1beta1_field_names_are_parsed():
    text = (
        "kind: ClusterQueue\nmetadata: {name: q}\nspec: {cohort: c, queueingStrategy: StrictFIFO, stopPolicy: Hold}\n"
    )
    read = objects.build_cluster_model(objects.parse_objects(text, "f")).kueue.cluster_queues[0]
    assert (read.cohort_name, read.is_strict_fifo, read.is_stopped) == ("c", True, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "f:1: invalid YAML"),
        ("just text", "f: a document has no kind"),
        ("kind: ClusterQueue\nmetadata: {}\nspec: {}\n", "invalid Kubernetes object: KeyError"),
        ("kind: Node\nmetadata: {name: n}\nstatus: {allocatable: {cpu: many}}\n", "invalid quantity 'many'"),
    ],
)
def test_invalid_objects_are_rejected_with_their_source(text, message):
    with pytest.raises(InputError, match=message):
        objects.build_cluster_model(objects.parse_objects(text, "f"))
