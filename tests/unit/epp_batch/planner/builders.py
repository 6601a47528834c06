"""Builders of small clusters and jobs, and a driver for KueueScheduler without a simulation."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from epp_batch.planner import PAPER_SPEEDS, KueueObjects, PlannedJob, build_planned_jobs
from epp_batch.planner.cluster_model import ClusterModel, ClusterQueue, FlavorQuotas, ResourceGroup, ResourceQuota
from epp_batch.planner.planned_job import parse_accelerator_request
from epp_batch.planner.scheduler import KueueScheduler
from epp_batch.planner.workload import WorkloadInfo
from epp_batch.spec import ClusterOptions, Placement, Recording, Task, Unit

JOBS_CSV = Path(__file__).parents[4] / "bench" / "paper" / "jobs.csv"
GPU = "nvidia.com/gpu"


def gpu_cluster_queue(
    name: str, gpus: int, *, borrowing_limit: int | None = None, lending_limit: int | None = None, **fields: Any
) -> ClusterQueue:
    """A ClusterQueue with one flavor and nothing but GPUs."""
    flavor = FlavorQuotas("f", {GPU: ResourceQuota(gpus, borrowing_limit, lending_limit)})
    return ClusterQueue(name=name, resource_groups=(ResourceGroup((GPU,), (flavor,)),), **fields)


def kueue_objects(*queues: ClusterQueue, **fields: Any) -> KueueObjects:
    """ClusterQueues, each with a LocalQueue of the same name."""
    return KueueObjects(cluster_queues=queues, local_queues={queue.name: queue.name for queue in queues}, **fields)


def planned_job(
    unit: str, queue: str = "q", *, gpus: int = 1, priority: int = 0, work: float = 100, accelerator: str = ""
) -> PlannedJob:
    request = parse_accelerator_request(accelerator or f"gpu:{gpus}")
    return PlannedJob(
        unit=unit,
        model="m",
        local_queue=queue,
        priority=priority,
        accelerator=request,
        gpu_slots=8 * gpus,
        requests=request.resource_requests(),
        startup_seconds=0,
        work_seconds=work,
    )


def paper_units() -> list[Unit]:
    """The paper's 32 jobs in its order."""
    with JOBS_CSV.open() as file:
        rows = list(csv.DictReader(file))
    return [
        Unit(
            name=f"{row['model']}-{i // 2}",
            tasks=(
                Task(
                    recording=Recording(source=row["source"], stems=(row["source"],), seconds=float(row["seconds"])),
                    model=row["model"],
                ),
            ),
        )
        for i, row in enumerate(rows)
    ]


def paper_jobs(cluster_model: ClusterModel, accelerators: Mapping[str, str]) -> list[PlannedJob]:
    placements = {model: Placement(accelerator=kind) for model, kind in accelerators.items()}
    cluster = ClusterOptions(namespace="b", queue="q", image="i", placements=placements)
    return build_planned_jobs(paper_units(), cluster, PAPER_SPEEDS, cluster_model)


class KueueRig:
    """Drives a KueueScheduler step by step; preempted workloads release their quota at once.

    Methods return the decisions in order: `a` for an admission, `-a` for a preemption.
    """

    def __init__(self, kueue: KueueObjects) -> None:
        self.scheduler = KueueScheduler(kueue)
        self.workloads: dict[str, WorkloadInfo | None] = {}
        self.now = 0.0
        self.reasons: list[str] = []
        """Reasons of all preemptions so far."""

    @classmethod
    def with_queues(cls, *queues: ClusterQueue, **fields: Any) -> KueueRig:
        return cls(kueue_objects(*queues, **fields))

    def submit_jobs(self, *jobs: PlannedJob) -> list[str]:
        decisions = []
        for job in jobs:
            self.now += 1
            self.workloads[job.unit] = self.scheduler.submit_job(job, self.now)
            decisions += self.run_until_settled()
        return decisions

    def finish_job(self, name: str) -> list[str]:
        return self._release_quota([self.workload(name)], requeue=False)

    def workload(self, name: str) -> WorkloadInfo:
        workload = self.workloads[name]
        assert workload is not None
        return workload

    def run_until_settled(self) -> list[str]:
        decisions = []
        while made := self.scheduler.run_cycles(self.now):
            self.now += 1
            evicted = [decision for decision in made if decision.eviction_reason]
            decisions += [f"{'-' * (decision in evicted)}{decision.workload.name}" for decision in made]
            self.reasons += [decision.preemption_reason for decision in evicted]
            if evicted:
                decisions += self._release_quota([decision.workload for decision in evicted], requeue=True)
        return decisions

    def _release_quota(self, workloads: Iterable[WorkloadInfo], *, requeue: bool) -> list[str]:
        """Releases quota at once, and makes inadmissible workloads eligible after the cycles that follow."""
        roots = [self.scheduler.release_quota(workload, self.now, requeue=requeue) for workload in workloads]
        decisions = self.run_until_settled()
        for root in roots:
            self.scheduler.requeue_cohort_workloads(root, self.now)
        return decisions + self.run_until_settled()
