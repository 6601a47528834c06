"""What requests count as: resource transformations and device class mappings."""

from __future__ import annotations

import msgspec

from epp_batch.planner.cluster_model import (
    ClusterQueue,
    DeviceClassMapping,
    FlavorQuotas,
    ResourceGroup,
    ResourceQuota,
    ResourceTransformation,
)
from tests.unit.epp_batch.planner.builders import KueueRig, planned_job


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
