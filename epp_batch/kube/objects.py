"""The fields that are read of Jobs, Workloads and Pods; all others are left behind when a line is decoded."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class _KubeStruct(msgspec.Struct, frozen=True, rename="camel"):
    """Base: Kubernetes spells names in camel case."""


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
    """What every object has."""

    @property
    def metadata(self) -> ObjectMeta: ...


class _JobSpec(_KubeStruct, frozen=True):
    suspend: bool = False
    backoff_limit: int = 6


class _UncountedTerminatedPods(_KubeStruct, frozen=True):
    failed: tuple[str, ...] = ()


class _JobStatus(_KubeStruct, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    failed: int = 0
    uncounted_terminated_pods: _UncountedTerminatedPods = _UncountedTerminatedPods()


class Job(_KubeStruct, frozen=True):
    metadata: ObjectMeta
    spec: _JobSpec = _JobSpec()
    status: _JobStatus = _JobStatus()

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _find_true_condition(self.status.conditions, kind)

    @property
    def is_finished(self) -> bool:
        return self.true_condition("Complete") is not None or self.true_condition("Failed") is not None


class _Eviction(_KubeStruct, frozen=True):
    reason: str = ""
    underlying_cause: str = ""
    count: int = 0


class _SchedulingStats(_KubeStruct, frozen=True):
    evictions: tuple[_Eviction, ...] = ()


class _PodSetAssignment(_KubeStruct, frozen=True):
    flavors: dict[str, str] = {}


class _Admission(_KubeStruct, frozen=True):
    cluster_queue: str = ""
    pod_set_assignments: tuple[_PodSetAssignment, ...] = ()


class _WorkloadSpec(_KubeStruct, frozen=True):
    active: bool = True
    queue_name: str = ""


class _WorkloadStatus(_KubeStruct, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    admission: _Admission | None = None
    scheduling_stats: _SchedulingStats = _SchedulingStats()


class Workload(_KubeStruct, frozen=True):
    metadata: ObjectMeta
    spec: _WorkloadSpec = _WorkloadSpec()
    status: _WorkloadStatus = _WorkloadStatus()

    def find_condition(self, kind: str) -> Condition | None:
        """The condition of this type, true or false."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _find_true_condition(self.status.conditions, kind)

    @property
    def eviction_count(self) -> int:
        """How often Kueue has taken quota away from it."""
        return sum(eviction.count for eviction in self.status.scheduling_stats.evictions)

    @property
    def job_name(self) -> str:
        """The name of the Job it stands for; empty for workloads of other kinds."""
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


class ContainerStatus(_KubeStruct, frozen=True):
    name: str = ""
    image: str = ""
    state: ContainerState = ContainerState()


class _PodSpec(_KubeStruct, frozen=True):
    node_name: str = ""


class _PodResourceClaimStatus(_KubeStruct, frozen=True):
    name: str = ""
    resource_claim_name: str = ""


class _PodStatus(_KubeStruct, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    resource_claim_statuses: tuple[_PodResourceClaimStatus, ...] | None = None


class Pod(_KubeStruct, frozen=True):
    metadata: ObjectMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    def true_condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _find_true_condition(self.status.conditions, kind)

    def find_condition(self, kind: str) -> Condition | None:
        """The condition of this type, true or false."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    @property
    def container_state(self) -> ContainerState:
        """The worker's container; an empty state before the kubelet has told one."""
        statuses = self.status.container_statuses or ()
        named = (status.state for status in statuses if status.name == "worker")
        return next(named, statuses[0].state if statuses else ContainerState())

    @property
    def is_terminal(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def exit_code(self) -> int | None:
        """Of its container; None while it has not ended."""
        ended = self.container_state.terminated
        return None if ended is None else ended.exit_code

    @property
    def started_at(self) -> datetime | None:
        """When its container started; None while it has not."""
        state = self.container_state
        if state.running is not None:
            return state.running.started_at
        return state.terminated.started_at if state.terminated is not None else None


def _find_true_condition(conditions: tuple[Condition, ...] | None, kind: str) -> Condition | None:
    return next((c for c in conditions or () if c.type == kind and c.is_true), None)
