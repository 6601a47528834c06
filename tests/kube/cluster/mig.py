"""MIG-capable GPUs as ResourceSlices with partitionable devices, in the form of NVIDIA's DRA driver. Pure.

Names, attributes and counters follow kubernetes-sigs/dra-driver-nvidia-gpu with dynamic MIG: a GPU is a set of shared
counters, one for each memory slice among them, and every placement of every profile is a device that consumes some.
Profiles and placements: https://docs.nvidia.com/datacenter/tesla/mig-user-guide (`nvidia-smi mig -lgip`, `-lgipp`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from tests.kube.cluster.client import KubeApi, Object

DRIVER = "gpu.nvidia.com"
VERSION = "resource.k8s.io/v1"
_SETS_PER_SLICE = 8  # ResourceSliceMaxCounterSets


class MigProfile(NamedTuple):
    """A MIG profile: its size and the slices of a GPU that it consumes."""

    name: str
    id: int  # GPU instance profile
    starts: Sequence[int]  # memory slices where it may begin
    size: int  # memory slices
    memory: int  # MiB
    multiprocessors: int
    copy_engines: int
    decoders: int
    jpeg_engines: int
    ofa_engines: int


class GpuModel(msgspec.Struct, frozen=True):
    """A GPU model with its profiles; the last profile is the whole GPU."""

    product: str
    architecture: str
    compute: str  # CUDA compute capability
    profiles: tuple[MigProfile, ...]


A100_40 = GpuModel(
    "NVIDIA A100-SXM4-40GB",
    "Ampere",
    "8.0.0",
    (
        MigProfile("1g.5gb", 19, range(7), 1, 4864, 14, 1, 0, 0, 0),
        MigProfile("1g.10gb", 15, (0, 2, 4, 6), 2, 9856, 14, 1, 1, 0, 0),
        MigProfile("2g.10gb", 14, (0, 2, 4), 2, 9856, 28, 2, 1, 0, 0),
        MigProfile("3g.20gb", 9, (0, 4), 4, 20096, 42, 3, 2, 0, 0),
        MigProfile("4g.20gb", 5, (0,), 4, 20096, 56, 4, 2, 0, 0),
        MigProfile("7g.40gb", 0, (0,), 8, 40320, 98, 7, 5, 1, 1),
    ),
)
H100_80 = GpuModel(
    "NVIDIA H100 80GB HBM3",
    "Hopper",
    "9.0.0",
    (
        MigProfile("1g.10gb", 19, range(7), 1, 9856, 16, 1, 1, 1, 0),
        MigProfile("1g.20gb", 15, (0, 2, 4, 6), 2, 19968, 26, 1, 1, 1, 0),
        MigProfile("2g.20gb", 14, (0, 2, 4), 2, 19968, 32, 2, 2, 2, 0),
        MigProfile("3g.40gb", 9, (0, 4), 4, 40192, 60, 3, 3, 3, 0),
        MigProfile("4g.40gb", 5, (0,), 4, 40192, 64, 4, 4, 4, 0),
        MigProfile("7g.80gb", 0, (0,), 8, 80896, 132, 8, 7, 7, 1),
    ),
)


def build_device_classes() -> list[Object]:
    """The driver's classes: whole GPUs, and partitions."""
    return [_build_device_class("gpu.nvidia.com", "gpu"), _build_device_class("mig.nvidia.com", "mig")]


def build_resource_slices(node: str, uid: str, gpus: Sequence[GpuModel]) -> list[Object]:
    """Everything the driver publishes for a node: one pool; counters and devices in slices of their own.

    They belong to the Node with that `uid` and are collected with it.
    """
    counted = [
        {"name": _counter_set_name(i), "counters": _build_counters(gpu.profiles[-1], 0)} for i, gpu in enumerate(gpus)
    ]
    parts: list[Object] = [{"sharedCounters": list(sets)} for sets in _split_batches(counted, _SETS_PER_SLICE)]
    parts += [{"devices": list(_build_devices(node, i, gpu))} for i, gpu in enumerate(gpus)]
    pool = {"name": node, "generation": 1, "resourceSliceCount": len(parts)}
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    return [
        {
            "apiVersion": VERSION,
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-{DRIVER}-{number}", "ownerReferences": [owner]},
            "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, **part},
        }
        for number, part in enumerate(parts)
    ]


def build_claim_template(name: str, namespace: str, profile: str, device_class: str = "mig.nvidia.com") -> Object:
    """A ResourceClaimTemplate for one partition of a profile; for a whole GPU without one."""
    exactly: Object = {"deviceClassName": device_class}
    if profile:
        expression = f"device.attributes['{DRIVER}'].profile == '{profile}'"
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    requests = [{"name": "slice", "exactly": exactly}]
    return {
        "apiVersion": VERSION,
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"spec": {"devices": {"requests": requests}}},
    }


async def publish_gpus(api: KubeApi, node: str, uid: str, gpus: Sequence[GpuModel]) -> None:
    """Creates the slices of a node, and the device classes where they are not there yet."""
    await api.apply(*build_device_classes())
    for document in build_resource_slices(node, uid, gpus):
        await api.create(document)


def _build_devices(node: str, index: int, gpu: GpuModel) -> Iterator[Object]:
    """The whole GPU, then every placement in order of names: the scheduler takes the first that fits."""
    uuid = f"GPU-{node}-{index}"
    about = {
        "productName": {"string": gpu.product},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": gpu.architecture},
        "cudaComputeCapability": {"version": gpu.compute},
        "driverVersion": {"version": "580.95.5"},
        "cudaDriverVersion": {"version": "13.0.0"},
    }
    whole = {"type": {"string": "gpu"}, "uuid": {"string": uuid}, **about}
    yield _build_device(f"gpu-{index}", index, whole, gpu.profiles[-1], 0)
    placed = ((profile, start) for profile in gpu.profiles for start in profile.starts)
    for profile, start in sorted(placed, key=lambda each: _device_name(index, *each)):
        about_part = {"type": {"string": "mig"}, "parentUUID": {"string": uuid}, "profile": {"string": profile.name}}
        yield _build_device(_device_name(index, profile, start), index, {**about_part, **about}, profile, start)


def _build_device(name: str, index: int, attributes: Object, profile: MigProfile, start: int) -> Object:
    capacity = {
        "memory": {"value": f"{profile.memory}Mi"},
        "multiprocessors": {"value": str(profile.multiprocessors)},
        "copyEngines": {"value": str(profile.copy_engines)},
        "decoders": {"value": str(profile.decoders)},
        "jpegEngines": {"value": str(profile.jpeg_engines)},
        "ofaEngines": {"value": str(profile.ofa_engines)},
    }
    consumed = [{"counterSet": _counter_set_name(index), "counters": _build_counters(profile, start)}]
    return {"name": name, "attributes": attributes, "capacity": capacity, "consumesCounters": consumed}


def _build_counters(profile: MigProfile, start: int) -> Object:
    counters = {
        "memory": {"value": f"{profile.memory}Mi"},
        "multiprocessors": {"value": str(profile.multiprocessors)},
        "copy-engines": {"value": str(profile.copy_engines)},
        "decoders": {"value": str(profile.decoders)},
        "jpeg-engines": {"value": str(profile.jpeg_engines)},
        "ofa-engines": {"value": str(profile.ofa_engines)},
    }
    return counters | {f"memory-slice-{i}": {"value": "1"} for i in range(start, start + profile.size)}


def _device_name(index: int, profile: MigProfile, start: int) -> str:
    return f"gpu-{index}-mig-{profile.name.replace('.', '')}-{profile.id}-{start}"


def _counter_set_name(index: int) -> str:
    return f"gpu-{index}-counter-set"


def _build_device_class(name: str, kind: str) -> Object:
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{kind}'"
    selectors = [{"cel": {"expression": expression}}]
    metadata = {"name": name}
    return {"apiVersion": VERSION, "kind": "DeviceClass", "metadata": metadata, "spec": {"selectors": selectors}}


def _split_batches(items: Sequence[Object], size: int) -> Iterator[Sequence[Object]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
