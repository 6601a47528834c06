"""The fields that we read of Jobs, Workloads and Pods. Decoding drops all others.

Names are those of the API in snake case (`batch/v1`, `kueue.x-k8s.io/v1beta2`, `v1`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class _KubeStruct(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all: the API's JSON is in camel case."""


class OwnerReference(_KubeStruct, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class ObjectMeta(_KubeStruct, frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(_KubeStruct, frozen=True):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    @property
    def is_true(self) -> bool:
        return self.status == "True"


class HasMetadata(Protocol):
    """Any API object."""

    @property
    def metadata(self) -> ObjectMeta: ...


class _JobSpec(_KubeStruct, frozen=True):
    backoff_limit: int = 6


class _UncountedTerminatedPods(_KubeStruct, frozen=True):
    failed: tuple[str, ...] = ()


class _JobStatus(_KubeStruct, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    completion_time: datetime | None = None
    failed: int = 0
    uncounted_terminated_pods: _UncountedTerminatedPods = _UncountedTerminatedPods()


class Job(_KubeStruct, frozen=True):
    metadata: ObjectMeta
    spec: _JobSpec = _JobSpec()
    status: _JobStatus = _JobStatus()

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type, if its status is True."""
        return _find_true_condition(self.status.conditions, kind)

    @property
    def is_finished(self) -> bool:
        """Complete or Failed, as `IsJobFinished` in Kubernetes' Job controller."""
        return self.true_condition("Complete") is not None or self.true_condition("Failed") is not None


class _Eviction(_KubeStruct, frozen=True):
    reason: str = ""
    underlying_cause: str = ""
    count: int = 0


class _SchedulingStats(_KubeStruct, frozen=True):
    evictions: tuple[_Eviction, ...] = ()


class _WorkloadSpec(_KubeStruct, frozen=True):
    active: bool = True
    queue_name: str = ""


class _WorkloadStatus(_KubeStruct, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    scheduling_stats: _SchedulingStats = _SchedulingStats()


class Workload(_KubeStruct, frozen=True):
    """Kueue's object for one Job: its place in the queue, its quota, its evictions."""

    metadata: ObjectMeta
    spec: _WorkloadSpec = _WorkloadSpec()
    status: _WorkloadStatus = _WorkloadStatus()

    def find_condition(self, kind: str) -> Condition | None:
        """The condition of this type, whatever its status."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type, if its status is True."""
        return _find_true_condition(self.status.conditions, kind)

    @property
    def eviction_count(self) -> int:
        """How often Kueue has evicted it, for any reason (`status.schedulingStats`)."""
        return sum(eviction.count for eviction in self.status.scheduling_stats.evictions)

    @property
    def job_name(self) -> str:
        """Name of the owning Job; empty if a workload of another kind owns it."""
        return next((owner.name for owner in self.metadata.owner_references if owner.kind == "Job"), "")


class ContainerStateWaiting(_KubeStruct, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(_KubeStruct, frozen=True):
    started_at: datetime | None = None


class ContainerStateTerminated(_KubeStruct, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(_KubeStruct, frozen=True):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None

    @property
    def started_at(self) -> datetime | None:
        """When the container started; None if it has not."""
        if self.running is not None:
            return self.running.started_at
        return self.terminated.started_at if self.terminated is not None else None

    @property
    def exit_code(self) -> int | None:
        """None unless the container has terminated."""
        return None if self.terminated is None else self.terminated.exit_code


class ContainerStatus(_KubeStruct, frozen=True):
    name: str = ""
    state: ContainerState = ContainerState()


class _PodSpec(_KubeStruct, frozen=True):
    node_name: str = ""


class _PodStatus(_KubeStruct, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class Pod(_KubeStruct, frozen=True):
    metadata: ObjectMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    def find_condition(self, kind: str) -> Condition | None:
        """The condition of this type, whatever its status."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type, if its status is True."""
        return _find_true_condition(self.status.conditions, kind)

    def container_state(self, name: str) -> ContainerState:
        """State of the container `name`, else of the first one; an empty state before the kubelet has reported any."""
        statuses = self.status.container_statuses or ()
        named = (status.state for status in statuses if status.name == name)
        return next(named, statuses[0].state if statuses else ContainerState())

    @property
    def is_terminal(self) -> bool:
        """Succeeded or Failed, as `IsPodTerminal` in Kubernetes."""
        return self.status.phase in ("Succeeded", "Failed")


def _find_true_condition(conditions: tuple[Condition, ...] | None, kind: str) -> Condition | None:
    return next((c for c in conditions or () if c.type == kind and c.is_true), None)
