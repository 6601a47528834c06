"""What requests count as: resource transformations and device class mappings."""

from __future__ import annotations

import msgspec
import pytest

from epp_batch.planner.cluster_model import (
    ClusterQueue,
    DeviceClassMapping,
    FlavorQuotas,
    ResourceGroup,
    ResourceQuota,
    ResourceTransformation,
)
from epp_batch.planner.objects import build_cluster_model, parse_objects
from epp_batch.planner.workload import compute_total_requests
from tests.unit.epp_batch.planner.builders import KueueRig, kueue_objects, planned_job


def queue_with_slots(nominal: int) -> ClusterQueue:
    return ClusterQueue(
        name="q", resource_groups=(ResourceGroup(("slots",), (FlavorQuotas("f", {"slots": ResourceQuota(nominal)}),)),)
    )


def test_resource_transformations_charge_slices_as_slots():
    rules = tuple(
        ResourceTransformation(input=f"nvidia.com/mig-{name}", replace=True, outputs={"slots": slots})
        for name, slots in (("1g.5gb", 1.0), ("3g.20gb", 4.0))
    )
    rig = KueueRig.with_queues(queue_with_slots(6), transformations=rules)
    wide, narrow = "mig:3g.20gb", "mig:1g.5gb"
    jobs = [planned_job(str(i), accelerator=kind) for i, kind in enumerate([wide, wide, narrow, narrow, narrow])]
    assert rig.submit_jobs(*jobs) == ["0", "2", "3"]
    assert rig.finish_job("0") == ["1"]


def test_device_class_mappings_charge_claims_by_device_or_by_memory():
    claim = planned_job("x", accelerator="dra:3g.20gb")
    by_memory = KueueRig.with_queues(
        queue_with_slots(20 << 30),
        device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots", counts_memory=True)},
    )
    one_each = KueueRig.with_queues(
        queue_with_slots(1), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots")}
    )
    unmapped = KueueRig.with_queues(queue_with_slots(1))
    sized = msgspec.structs.replace(claim, gpu_memory=20 << 30)
    assert by_memory.submit_jobs(sized) == one_each.submit_jobs(sized) == ["x"]
    assert unmapped.submit_jobs(sized) == []
    assert (
        "DeviceClass mig.nvidia.com is not in resources.deviceClassMappings"
        in unmapped.scheduler.explain_inadmissible(unmapped.workloads["x"])
    )


def test_charges_of_claims_are_not_transformed():
    double = ResourceTransformation(input="slots", outputs={"slots": 1.0})
    kueue = kueue_objects(
        transformations=(double,), device_class_mappings={"mig.nvidia.com": DeviceClassMapping("slots")}
    )
    assert compute_total_requests(planned_job("x", accelerator="dra:3g.20gb"), kueue) == {"slots": 1}


@pytest.mark.parametrize(("gpus", "credits"), [(1, 1), (2, 1), (3, 2)])
def test_fractions_of_an_output_are_rounded_up(gpus, credits):
    text = """
kind: ClusterQueue
metadata: {name: q}
spec: {}
---
kind: Configuration
resources:
  transformations:
  - {input: nvidia.com/gpu, strategy: Replace, outputs: {credits: 500m}}
  - {input: cpu, outputs: {licences: 2}}
"""
    kueue = build_cluster_model(parse_objects(text, "f")).kueue
    job = planned_job("x", gpus=gpus)
    job.requests["cpu"] = 1500
    assert compute_total_requests(job, kueue) == {"credits": credits, "cpu": 1500, "licences": 3}
