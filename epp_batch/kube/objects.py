"""The fields that are read of Jobs, Workloads and Pods; all others are left behind when a line is decoded."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec


class _Object(msgspec.Struct, frozen=True, rename="camel"):
    """Base: Kubernetes spells names in camel case."""


class Owner(_Object, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class Meta(_Object, frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Owner, ...] = ()


class Condition(_Object, frozen=True):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None

    @property
    def true(self) -> bool:
        return self.status == "True"


class Named(Protocol):
    """What every object has."""

    @property
    def metadata(self) -> Meta: ...


class _JobSpec(_Object, frozen=True):
    suspend: bool = False
    backoff_limit: int = 6


class _Uncounted(_Object, frozen=True):
    failed: tuple[str, ...] = ()


class _JobStatus(_Object, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    failed: int = 0
    uncounted_terminated_pods: _Uncounted = _Uncounted()


class Job(_Object, frozen=True):
    metadata: Meta
    spec: _JobSpec = _JobSpec()
    status: _JobStatus = _JobStatus()

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _true(self.status.conditions, kind)

    @property
    def ended(self) -> bool:
        return self.condition("Complete") is not None or self.condition("Failed") is not None


class _Eviction(_Object, frozen=True):
    reason: str = ""
    underlying_cause: str = ""
    count: int = 0


class _SchedulingStats(_Object, frozen=True):
    evictions: tuple[_Eviction, ...] = ()


class _PodSet(_Object, frozen=True):
    flavors: dict[str, str] = {}


class _Admission(_Object, frozen=True):
    cluster_queue: str = ""
    pod_set_assignments: tuple[_PodSet, ...] = ()


class _WorkloadSpec(_Object, frozen=True):
    active: bool = True
    queue_name: str = ""


class _WorkloadStatus(_Object, frozen=True):
    conditions: tuple[Condition, ...] | None = None
    admission: _Admission | None = None
    scheduling_stats: _SchedulingStats = _SchedulingStats()


class Workload(_Object, frozen=True):
    metadata: Meta
    spec: _WorkloadSpec = _WorkloadSpec()
    status: _WorkloadStatus = _WorkloadStatus()

    def find(self, kind: str) -> Condition | None:
        """The condition of this type, true or false."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _true(self.status.conditions, kind)

    @property
    def evictions(self) -> int:
        """How often Kueue has taken quota away from it."""
        return sum(eviction.count for eviction in self.status.scheduling_stats.evictions)

    @property
    def job(self) -> str:
        """The name of the Job it stands for; empty for workloads of other kinds."""
        return next((owner.name for owner in self.metadata.owner_references if owner.kind == "Job"), "")


class Waiting(_Object, frozen=True):
    reason: str = ""
    message: str = ""


class RunningState(_Object, frozen=True):
    started_at: datetime | None = None


class Terminated(_Object, frozen=True):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(_Object, frozen=True):
    waiting: Waiting | None = None
    running: RunningState | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Object, frozen=True):
    name: str = ""
    image: str = ""
    state: ContainerState = ContainerState()


class _PodSpec(_Object, frozen=True):
    node_name: str = ""


class _ClaimStatus(_Object, frozen=True):
    name: str = ""
    resource_claim_name: str = ""


class _PodStatus(_Object, frozen=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    resource_claim_statuses: tuple[_ClaimStatus, ...] | None = None


class Pod(_Object, frozen=True):
    metadata: Meta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type if it is true."""
        return _true(self.status.conditions, kind)

    def find(self, kind: str) -> Condition | None:
        """The condition of this type, true or false."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    @property
    def container(self) -> ContainerState:
        """The worker's container; an empty state before the kubelet has told one."""
        statuses = self.status.container_statuses or ()
        named = (status.state for status in statuses if status.name == "worker")
        return next(named, statuses[0].state if statuses else ContainerState())

    @property
    def ended(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def exit_code(self) -> int | None:
        """Of its container; None while it has not ended."""
        ended = self.container.terminated
        return None if ended is None else ended.exit_code

    @property
    def ran(self) -> datetime | None:
        """When its container started; None while it has not."""
        state = self.container
        if state.running is not None:
            return state.running.started_at
        return state.terminated.started_at if state.terminated is not None else None


def _true(conditions: tuple[Condition, ...] | None, kind: str) -> Condition | None:
    return next((c for c in conditions or () if c.type == kind and c.true), None)
