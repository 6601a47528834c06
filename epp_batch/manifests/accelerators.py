"""Accelerator requests of a pod: whole GPUs, MIG slices by the device plugin, or devices by DRA claims.

NVIDIA's device plugin advertises the resources `nvidia.com/gpu` and `nvidia.com/mig-<profile>`. The Dynamic Accelerator
Slicer (DAS) accepts the same request and creates the slice. NVIDIA's DRA driver has the device classes `gpu.nvidia.com`
and `mig.nvidia.com`, whose devices have their MIG profile as an attribute.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from epp_batch.errors import InputError

GPU_RESOURCE = "nvidia.com/gpu"
MIG_SLOTS_RESOURCE = "epp-batch/mig-slots"
"""Quota in eighths of a GPU: the output of Kueue's resource transformations of MIG slices."""
GPU_MEMORY_RESOURCE = "epp-batch/gpu-memory"
"""Quota in bytes of GPU memory: what Kueue charges DRA claims, by the `memory` counter of NVIDIA's driver."""
DRA_DRIVER = "gpu.nvidia.com"
"""Name of NVIDIA's DRA driver, and of its device class of whole GPUs."""
CLAIM_NAME = "gpu"
"""Name of the resource claim within the pod."""
_PROFILE = re.compile(r"(\d+)g\.(\d+)gb(\+me)?")
_DOUBLE_MEMORY = frozenset({20, 24, 35, 45})
"""Memory in GB of the 1g profiles with double memory, which take two slots: on 80, 94-96, 141 and 180 GB GPUs."""
_A30_SLOTS = {"1g.6gb": 2, "2g.12gb": 4, "4g.24gb": 8}
"""Slots by profile of the A30, whose four physical slots count double."""
ACCELERATOR_KINDS = "gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu"


class Accelerator(ABC):
    """The accelerator request of one Job. The base class requests no accelerator."""

    @property
    @abstractmethod
    def flag_value(self) -> str:
        """The value of --accelerator that `parse_accelerator` reads."""

    def container_resources(self) -> dict[str, str]:
        """Extended resources of the container, as requests and limits."""
        return {}

    def resource_claims(self) -> list[dict[str, Any]]:
        """`spec.resourceClaims` of the pod."""
        return []

    def claim_templates(self) -> list[dict[str, Any]]:
        """The ResourceClaimTemplates that the claims refer to, without a namespace."""
        return []

    def possible_usage(self) -> list[dict[str, int]]:
        """Possible quota usage by resource, most likely first; which one applies depends on Kueue's configuration."""
        return []

    @property
    def node_resource(self) -> tuple[str, int] | None:
        """The resource and amount that a node must have allocatable; None for a DRA claim."""
        return None

    @property
    def device_class(self) -> str | None:
        """The DRA device class; None without DRA."""
        return None

    @property
    def slots(self) -> int:
        """MIG slots: eighths of a GPU, 8 per whole GPU."""
        return 0


@dataclass(frozen=True)
class CpuOnly(Accelerator):
    """No accelerator."""

    @property
    def flag_value(self) -> str:
        return "cpu"


@dataclass(frozen=True)
class WholeGpu(Accelerator):
    """Whole GPUs, by the device plugin."""

    count: int = 1

    @property
    def flag_value(self) -> str:
        return "gpu" if self.count == 1 else f"gpu:{self.count}"

    def container_resources(self) -> dict[str, str]:
        return {GPU_RESOURCE: str(self.count)}

    def possible_usage(self) -> list[dict[str, int]]:
        return [{GPU_RESOURCE: self.count}, {MIG_SLOTS_RESOURCE: self.slots}]

    @property
    def node_resource(self) -> tuple[str, int]:
        return GPU_RESOURCE, self.count

    @property
    def slots(self) -> int:
        return 8 * self.count


@dataclass(frozen=True)
class MigSlice(Accelerator):
    """One MIG slice, by the device plugin or the Dynamic Accelerator Slicer."""

    profile: str

    @property
    def flag_value(self) -> str:
        return f"mig:{self.profile}"

    @property
    def resource(self) -> str:
        """The extended resource; `+` is not allowed in its name."""
        return f"nvidia.com/mig-{self.profile.replace('+', '.')}"

    def container_resources(self) -> dict[str, str]:
        return {self.resource: "1"}

    def possible_usage(self) -> list[dict[str, int]]:
        return [{self.resource: 1}, {MIG_SLOTS_RESOURCE: self.slots}]

    @property
    def node_resource(self) -> tuple[str, int]:
        return self.resource, 1

    @property
    def slots(self) -> int:
        return profile_slots(self.profile)


@dataclass(frozen=True)
class DraDevice(Accelerator):
    """One device by a DRA claim: a MIG slice of `profile`, or a whole GPU if it is None."""

    profile: str | None = None

    @property
    def flag_value(self) -> str:
        return f"dra:{self.profile}" if self.profile else "dra-gpu"

    @property
    def template_name(self) -> str:
        """Name of the ResourceClaimTemplate. The name determines the content, so runs can share it."""
        return f"epp-batch-mig-{self.profile.replace('+', '.')}" if self.profile else "epp-batch-gpu"

    @property
    def device_class(self) -> str:
        return "mig.nvidia.com" if self.profile else DRA_DRIVER

    def resource_claims(self) -> list[dict[str, Any]]:
        return [{"name": CLAIM_NAME, "resourceClaimTemplateName": self.template_name}]

    def claim_templates(self) -> list[dict[str, Any]]:
        exactly: dict[str, Any] = {"deviceClassName": self.device_class, "allocationMode": "ExactCount", "count": 1}
        if self.profile:
            expression = f"device.attributes['{DRA_DRIVER}'].profile == '{self.profile}'"
            exactly["selectors"] = [{"cel": {"expression": expression}}]
        return [
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaimTemplate",
                "metadata": {"name": self.template_name, "labels": {"app.kubernetes.io/managed-by": "epp-batch"}},
                "spec": {"spec": {"devices": {"requests": [{"name": CLAIM_NAME, "exactly": exactly}]}}},
            }
        ]

    def possible_usage(self) -> list[dict[str, int]]:
        return [{GPU_MEMORY_RESOURCE: self.memory_bytes}]

    @property
    def memory_bytes(self) -> int:
        """Bytes charged by the `memory` counter, by the profile's name (GB read as GiB); 1 for a whole GPU: unknown."""
        match = _PROFILE.fullmatch(self.profile or "")
        return int(match[2]) * 2**30 if match else 1

    @property
    def slots(self) -> int:
        return profile_slots(self.profile) if self.profile else 8


def parse_accelerator(text: str) -> Accelerator:
    """Parses an --accelerator value (ACCELERATOR_KINDS); raises InputError for anything else."""
    kind, sign, rest = text.strip().lower().partition(":")
    if kind == "gpu" and (not sign or (rest.isdecimal() and int(rest) > 0)):
        return WholeGpu(int(rest or 1))
    if kind in {"mig", "dra"} and rest:
        profile_slots(rest)
        return MigSlice(rest) if kind == "mig" else DraDevice(rest)
    if not sign and kind in {"dra-gpu", "cpu"}:
        return DraDevice() if kind == "dra-gpu" else CpuOnly()
    raise InputError(
        f"invalid accelerator {text!r}", remedy=f"expected {ACCELERATOR_KINDS}, with a PROFILE such as 1g.5gb"
    )


def profile_slots(profile: str) -> int:
    """Slots of a MIG profile, out of 8 per GPU: 1, 2, 4 or 8; raises InputError if it is not a MIG profile.

    A 3g profile takes the same memory, and so as many slots, as 4g. 1g.10gb is read as the single-slot profile of an 80
    GB GPU, not as the double-memory profile of a 40 GB GPU.
    """
    match = _PROFILE.fullmatch(profile)
    if match is None or int(match[1]) not in {1, 2, 3, 4, 7}:
        raise InputError(
            f"invalid MIG profile {profile!r}", remedy="write for example 1g.5gb, 2g.20gb, 3g.40gb or 7g.80gb"
        )
    if profile in _A30_SLOTS:
        return _A30_SLOTS[profile]
    compute, memory = int(match[1]), int(match[2])
    return {1: 2 if memory in _DOUBLE_MEMORY else 1, 2: 2, 3: 4, 4: 4, 7: 8}[compute]


def build_transformations(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """Kueue's `resources.transformations` (KEP-2937) that charge slices of all MIG profiles as slots of one quota."""
    return [
        {
            "input": MigSlice(profile).resource,
            "strategy": "Replace",
            "outputs": {MIG_SLOTS_RESOURCE: str(profile_slots(profile))},
        }
        for profile in profiles
    ]
