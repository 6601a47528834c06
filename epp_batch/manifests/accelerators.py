"""What a pod asks for to get a GPU or a part of one: a strategy each for whole GPUs, MIG slices and DRA claims.

Names: NVIDIA's device plugin advertises `nvidia.com/gpu` and `nvidia.com/mig-<profile>`; the Dynamic Accelerator
Slicer takes the same request and makes the slice; NVIDIA's DRA driver has the device classes `gpu.nvidia.com` and
`mig.nvidia.com`, whose devices carry their profile as an attribute.
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
"""Quota in eighths of a GPU: what transformations turn slices into."""
GPU_MEMORY_RESOURCE = "epp-batch/gpu-memory"
"""Quota in bytes of GPU memory: what claims are charged, by the `memory` counter of NVIDIA's driver."""
DRA_DRIVER = "gpu.nvidia.com"
"""Of DRA."""
CLAIM_NAME = "gpu"
"""Name of the claim within a pod."""
_PROFILE = re.compile(r"(\d+)g\.(\d+)gb(\+me)?")
_DOUBLE_MEMORY = frozenset({20, 24, 35, 45})
"""GB of 1g profiles with twice the memory, which take two slots: of 80, 94-96, 141 and 180 GB GPUs."""
_A30_SLOTS = {"1g.6gb": 2, "2g.12gb": 4, "4g.24gb": 8}
"""It has four slots, which count double."""
ACCELERATOR_KINDS = "gpu, gpu:N, mig:PROFILE, dra:PROFILE, dra-gpu or cpu"


class Accelerator(ABC):
    """What one Job asks for. The answers of `Cpu` are those of a strategy that asks for nothing."""

    @property
    @abstractmethod
    def flag_value(self) -> str:
        """As `parse` reads it."""

    def container_resources(self) -> dict[str, str]:
        """Requests and limits of the container."""
        return {}

    def resource_claims(self) -> list[dict[str, Any]]:
        """`spec.resourceClaims` of the pod."""
        return []

    def claim_templates(self) -> list[dict[str, Any]]:
        """ResourceClaimTemplates that the claims name, without a namespace."""
        return []

    def possible_usage(self) -> list[dict[str, int]]:
        """What Kueue charges, by resource, most likely first: one of these has to be covered by the queue."""
        return []

    @property
    def quota_resource(self) -> str:
        """What the queue's quota is most likely counted in."""
        return next(iter(self.possible_usage()[0]), "cpu") if self.possible_usage() else "cpu"

    @property
    def node_resource(self) -> tuple[str, int] | None:
        """What a node has to advertise, and how much; None for claims, which nodes do not list."""
        return None

    @property
    def device_class(self) -> str | None:
        return None

    @property
    def slots(self) -> int:
        """Eighths of a GPU; several GPUs count their sum."""
        return 0


@dataclass(frozen=True)
class CpuOnly(Accelerator):
    """No GPU."""

    @property
    def flag_value(self) -> str:
        return "cpu"


@dataclass(frozen=True)
class WholeGpu(Accelerator):
    """GPUs of their own, by the device plugin."""

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
    """A slice, by the device plugin or the Dynamic Accelerator Slicer."""

    profile: str

    @property
    def flag_value(self) -> str:
        return f"mig:{self.profile}"

    @property
    def resource(self) -> str:
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
    """A device by dynamic resource allocation: a slice of a profile, or a whole GPU where there is none."""

    profile: str | None = None

    @property
    def flag_value(self) -> str:
        return f"dra:{self.profile}" if self.profile else "dra-gpu"

    @property
    def template_name(self) -> str:
        """Name of the ResourceClaimTemplate; its content follows from its name, so runs may share it."""
        return f"epp-batch-mig-{self.profile.replace('+', '.')}" if self.profile else "epp-batch-gpu"

    @property
    def device_class(self) -> str:
        return "mig.nvidia.com" if self.profile else DRA_DRIVER

    def resource_claims(self) -> list[dict[str, Any]]:
        return [{"name": CLAIM_NAME, "resourceClaimTemplateName": self.template_name}]

    def claim_templates(self) -> list[dict[str, Any]]:
        exactly: dict[str, Any] = {"deviceClassName": self.device_class, "allocationMode": "ExactCount", "count": 1}
        if self.profile:
            where = f"device.attributes['{DRA_DRIVER}'].profile == '{self.profile}'"
            exactly["selectors"] = [{"cel": {"expression": where}}]
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
        """Bytes that the counter charges, rounded up; 1 for a whole GPU, whose size its name does not tell."""
        match = _PROFILE.fullmatch(self.profile or "")
        return int(match[2]) * 2**30 if match else 1

    @property
    def slots(self) -> int:
        return profile_slots(self.profile) if self.profile else 8


def parse_accelerator(text: str) -> Accelerator:
    """One of KINDS; raises InputError for anything else."""
    kind, sign, rest = text.strip().lower().partition(":")
    if kind == "gpu" and (not sign or (rest.isdecimal() and int(rest) > 0)):
        return WholeGpu(int(rest or 1))
    if kind in {"mig", "dra"} and rest:
        profile_slots(rest)
        return MigSlice(rest) if kind == "mig" else DraDevice(rest)
    if not sign and kind in {"dra-gpu", "cpu"}:
        return DraDevice() if kind == "dra-gpu" else CpuOnly()
    raise InputError(f"accelerator {text!r} is none of {ACCELERATOR_KINDS}", remedy="a profile is as 1g.5gb or 3g.40gb")


def profile_slots(profile: str) -> int:
    """Slots of a MIG profile, of the 8 that a GPU has: 1, 2, 4 or 8; InputError for what is none.

    3g takes as much memory as 4g. 1g.10gb is the plain seventh of an 80 GB GPU, not the double one of a 40 GB GPU.
    """
    match = _PROFILE.fullmatch(profile)
    if match is None or int(match[1]) not in {1, 2, 3, 4, 7}:
        raise InputError(f"{profile!r} is no MIG profile", remedy="as 1g.5gb, 2g.20gb, 3g.40gb, 7g.80gb")
    if profile in _A30_SLOTS:
        return _A30_SLOTS[profile]
    compute, memory = int(match[1]), int(match[2])
    return {1: 2 if memory in _DOUBLE_MEMORY else 1, 2: 2, 3: 4, 4: 4, 7: 8}[compute]


def build_transformations(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """Kueue's `resources.transformations` that charge slices as slots, so that all profiles share one quota."""
    return [
        {
            "input": MigSlice(profile).resource,
            "strategy": "Replace",
            "outputs": {MIG_SLOTS_RESOURCE: str(profile_slots(profile))},
        }
        for profile in profiles
    ]
