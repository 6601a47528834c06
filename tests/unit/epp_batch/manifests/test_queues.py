"""Presets, and the files of deploy/kueue. That Kueue takes them is tested in tests/kube."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from epp_batch.errors import InputError
from epp_batch.manifests import accelerators
from epp_batch.manifests.queues import QUEUE_PRESETS, build_kueue_objects, build_manager_configuration, build_preset

DEPLOY = Path(__file__).parents[4] / "deploy" / "kueue"


def kinds(name, **more):
    return [
        (one["kind"], one["metadata"]["name"]) for one in build_kueue_objects(build_preset(name, "whisper", 8, **more))
    ]


@pytest.mark.parametrize("name", QUEUE_PRESETS)
def test_deploy_has_what_the_command_prints(name):
    settings = build_preset(name, "whisper", 8)
    assert list(yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text())) == build_kueue_objects(settings)
    file = DEPLOY / f"{name}-configuration.yaml"
    assert (yaml.safe_load(file.read_text()) if file.exists() else {}) == build_manager_configuration(settings)


def test_the_papers_configurations():
    assert kinds("paper-a") == [
        ("ResourceFlavor", "gpu-flavor"),
        ("ClusterQueue", "cluster-queue"),
        ("LocalQueue", "local-queue-medium"),
        ("LocalQueue", "local-queue-large"),
    ]
    assert ("Cohort", "gpu-cohort") in kinds("paper-b")
    assert ("WorkloadPriorityClass", "high-priority") in kinds("paper-c")


def queues(name, gpus=8):
    return [
        one["spec"] for one in build_kueue_objects(build_preset(name, "whisper", gpus)) if one["kind"] == "ClusterQueue"
    ]


def quota(spec):
    return spec["resourceGroups"][0]["flavors"][0]["resources"][0]


@pytest.mark.parametrize("gpus", [1, 7, 8])
def test_the_cohort_shares_all_gpus(gpus):
    medium, large = queues("paper-b", gpus)
    assert int(quota(medium)["nominalQuota"]) + int(quota(large)["nominalQuota"]) == gpus
    assert quota(medium)["borrowingLimit"] == "0"
    assert "borrowingLimit" not in quota(large)
    assert medium["cohortName"] == large["cohortName"] == "gpu-cohort"


def test_slices_share_eight_slots_a_gpu():
    (queue,) = queues("slots", 2)
    assert quota(queue) == {"name": accelerators.MIG_SLOTS_RESOURCE, "nominalQuota": "16"}
    rules = build_manager_configuration(build_preset("slots", "w", 2, "H100-80"))["resources"]["transformations"]
    assert {rule["input"]: rule["outputs"][accelerators.MIG_SLOTS_RESOURCE] for rule in rules}[
        "nvidia.com/mig-3g.40gb"
    ] == "4"


def test_claims_share_gpu_memory():
    (queue,) = queues("dra", 2)
    assert quota(queue) == {"name": accelerators.GPU_MEMORY_RESOURCE, "nominalQuota": "80Gi"}


def test_names_that_the_cluster_shares_may_be_prefixed():
    made = build_kueue_objects(build_preset("paper-b", "whisper", 8).with_prefix("x-"))
    assert all(one["metadata"]["name"].startswith("x-") for one in made if one["kind"] != "LocalQueue")
    assert all(one["spec"]["clusterQueue"].startswith("x-") for one in made if one["kind"] == "LocalQueue")


def test_what_is_unknown():
    with pytest.raises(InputError, match="preset 'x' is unknown; one of paper-a"):
        build_preset("x", "whisper", 8)
    with pytest.raises(InputError, match="GPU 'v100' is unknown; one of A100"):
        build_preset("slots", "whisper", 8, "v100")
