"""Builders of small runs and of the cluster's objects."""

from __future__ import annotations

import pytest

from epp_batch.spec import ClusterOptions, Recording, Run, Task, TranscriptionOptions, Unit, Volume

PVC = Volume(source="pvc/audio", mount="/data", local="/home/me/audio")


def unit(name="r-1", model="large", source="/home/me/audio/call.mp3", seconds=60.0):
    recording = Recording(source=source, stems=("call",), sha256="ab" * 32, seconds=seconds, reference="/home/me/x.txt")
    return Unit(name=name, tasks=(Task(recording=recording, model=model),))


def run(*units, output="/home/me/audio/out", **cluster):
    known = {"namespace": "whisper", "queue": "lq", "image": "worker:1", "volumes": (PVC,)} | cluster
    return Run(
        name="r",
        output=output,
        options=TranscriptionOptions(),
        units=units or (unit(),),
        cluster=ClusterOptions(**known),
    )


def local_queue(name="lq", cluster_queue="cq", **spec):
    return {"metadata": {"name": name, "namespace": "whisper"}, "spec": {"clusterQueue": cluster_queue, **spec}}


def cluster_queue(name="cq", flavors=None, status=None, **spec):
    """`flavors`: flavor -> resource -> nominal quota, or a dict of the quota's fields."""
    offers = [
        {
            "name": flavor,
            "resources": [
                {"name": resource, **(amount if isinstance(amount, dict) else {"nominalQuota": str(amount)})}
                for resource, amount in resources.items()
            ],
        }
        for flavor, resources in (flavors or {"gpu": {"nvidia.com/gpu": 8}}).items()
    ]
    covered = [resource["name"] for resource in offers[0]["resources"]]
    group = {"coveredResources": covered, "flavors": offers}
    return {
        "metadata": {"name": name},
        "spec": {"namespaceSelector": {}, "resourceGroups": [group], **spec},
        "status": status or {"conditions": [{"type": "Active", "status": "True"}]},
    }


def flavor(name="gpu", **spec):
    return {"metadata": {"name": name}, "spec": spec}


def node(name="n", labels=None, taints=(), unschedulable=False, **allocatable):
    spec = {"taints": list(taints), "unschedulable": unschedulable}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": {"allocatable": allocatable}}


@pytest.fixture
def inventory():
    """A cluster in which the run of `run()` can be admitted, as keywords of `ClusterInventory`."""
    return {
        "local_queues": [local_queue()],
        "cluster_queues": [cluster_queue()],
        "flavors": [flavor()],
        "priority_classes": [{"metadata": {"name": "high"}}],
        "device_classes": [{"metadata": {"name": "mig.nvidia.com"}}],
        "nodes": [node(**{"nvidia.com/gpu": "8"})],
    }
