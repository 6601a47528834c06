"""Queue presets, and the files of deploy/kueue that they generate. That Kueue accepts them: tests/kube."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from epp_batch.errors import InputError
from epp_batch.manifests import accelerators
from epp_batch.manifests.queues import QUEUE_PRESETS, build_kueue_objects, build_manager_configuration, build_preset

DEPLOY = Path(__file__).parents[4] / "deploy" / "kueue"


def kinds_and_names(name, **more):
    return [
        (one["kind"], one["metadata"]["name"]) for one in build_kueue_objects(build_preset(name, "whisper", 8, **more))
    ]


@pytest.mark.parametrize("name", QUEUE_PRESETS)
def test_deploy_files_equal_the_presets(name):
    settings = build_preset(name, "whisper", 8)
    assert list(yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text())) == build_kueue_objects(settings)
    file = DEPLOY / f"{name}-configuration.yaml"
    assert (yaml.safe_load(file.read_text()) if file.exists() else {}) == build_manager_configuration(settings)


def test_presets_of_the_paper():
    assert kinds_and_names("paper-a") == [
        ("ResourceFlavor", "gpu-flavor"),
        ("ClusterQueue", "cluster-queue"),
        ("LocalQueue", "local-queue-medium"),
        ("LocalQueue", "local-queue-large"),
    ]
    assert ("Cohort", "gpu-cohort") in kinds_and_names("paper-b")
    assert ("WorkloadPriorityClass", "high-priority") in kinds_and_names("paper-c")


def cluster_queue_specs(name, gpus=8):
    return [
        one["spec"] for one in build_kueue_objects(build_preset(name, "whisper", gpus)) if one["kind"] == "ClusterQueue"
    ]


def first_quota(spec):
    return spec["resourceGroups"][0]["flavors"][0]["resources"][0]


@pytest.mark.parametrize("gpus", [1, 7, 8])
def test_cohort_quota_adds_up_to_all_gpus(gpus):
    medium, large = cluster_queue_specs("paper-b", gpus)
    assert int(first_quota(medium)["nominalQuota"]) + int(first_quota(large)["nominalQuota"]) == gpus
    assert first_quota(medium)["borrowingLimit"] == "0"
    assert "borrowingLimit" not in first_quota(large)
    assert medium["cohortName"] == large["cohortName"] == "gpu-cohort"


def test_slots_preset_has_eight_slots_per_gpu():
    (queue,) = cluster_queue_specs("slots", 2)
    assert first_quota(queue) == {"name": accelerators.MIG_SLOTS_RESOURCE, "nominalQuota": "16"}
    rules = build_manager_configuration(build_preset("slots", "w", 2, "H100-80"))["resources"]["transformations"]
    assert {rule["input"]: rule["outputs"][accelerators.MIG_SLOTS_RESOURCE] for rule in rules}[
        "nvidia.com/mig-3g.40gb"
    ] == "4"


def test_dra_preset_counts_gpu_memory():
    (queue,) = cluster_queue_specs("dra", 2)
    assert first_quota(queue) == {"name": accelerators.GPU_MEMORY_RESOURCE, "nominalQuota": "80Gi"}


def test_prefix_of_cluster_scoped_names():
    objects = build_kueue_objects(build_preset("paper-b", "whisper", 8).with_prefix("x-"))
    assert all(one["metadata"]["name"].startswith("x-") for one in objects if one["kind"] != "LocalQueue")
    assert all(one["spec"]["clusterQueue"].startswith("x-") for one in objects if one["kind"] == "LocalQueue")


def test_unknown_preset_or_gpu_is_rejected():
    with pytest.raises(InputError, match="unknown preset 'x'; expected one of paper-a"):
        build_preset("x", "whisper", 8)
    with pytest.raises(InputError, match="unknown GPU 'v100'; expected one of A100"):
        build_preset("slots", "whisper", 8, "v100")
