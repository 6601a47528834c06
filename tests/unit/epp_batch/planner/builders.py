"""Small worlds and demands."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from epp_batch.planner import PAPER_SPEEDS, KueueObjects, PlannedJob, build_planned_jobs
from epp_batch.planner.cluster_model import ClusterModel, ClusterQueue, FlavorQuotas, ResourceGroup, ResourceQuota
from epp_batch.planner.planned_job import parse_accelerator_request
from epp_batch.planner.scheduler import KueueScheduler
from epp_batch.spec import ClusterOptions, Placement, Recording, Task, Unit

JOBS_CSV = Path(__file__).parents[4] / "bench" / "paper" / "jobs.csv"
GPU = "nvidia.com/gpu"


def gpu_cluster_queue(name: str, gpus: int, **more) -> ClusterQueue:
    """One flavor, GPUs only; `borrowing` and `lending` go into the quota."""
    quota = ResourceQuota(gpus, more.pop("borrowing", None), more.pop("lending", None))
    return ClusterQueue(name=name, resource_groups=(ResourceGroup((GPU,), (FlavorQuotas("f", {GPU: quota}),)),), **more)


def kueue_objects(*queues: ClusterQueue, **more) -> KueueObjects:
    """Each ClusterQueue has a LocalQueue of the same name."""
    return KueueObjects(cluster_queues=queues, local_queues={queue.name: queue.name for queue in queues}, **more)


def planned_job(
    unit: str, queue: str = "q", *, gpus: int = 1, priority: int = 0, work: float = 100, accelerator: str = ""
) -> PlannedJob:
    wanted = parse_accelerator_request(accelerator or f"gpu:{gpus}")
    return PlannedJob(
        unit=unit, model="m", local_queue=queue, priority=priority, accelerator=wanted, gpu_slots=8 * gpus,
        requests=wanted.resource_requests(), startup_seconds=0, work_seconds=work,
    )  # fmt: skip


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


def paper_jobs(world: ClusterModel, accelerators: Mapping[str, str]) -> list[PlannedJob]:
    placements = {model: Placement(accelerator=kind) for model, kind in accelerators.items()}
    cluster = ClusterOptions(namespace="b", queue="q", image="i", placements=placements)
    return build_planned_jobs(paper_units(), cluster, PAPER_SPEEDS, world)


class KueueRig:
    """Kueue, and who is admitted; victims go at once."""

    def __init__(self, kueue: KueueObjects) -> None:
        self.scheduler = KueueScheduler(kueue)
        self.workloads = {}
        self.now = 0.0
        self.reasons: list[str] = []

    @classmethod
    def with_queues(cls, *queues: ClusterQueue, **more) -> KueueRig:
        return cls(kueue_objects(*queues, **more))

    def submit_jobs(self, *wanted):
        told = []
        for one in wanted:
            self.now += 1
            self.workloads[one.unit] = self.scheduler.submit_job(one, self.now)
            told += self.run_until_settled()
        return told

    def finish_job(self, name):
        return self._release_and_retry([self.workloads[name]], again=False)

    def run_until_settled(self):
        """What happens until nothing changes: `a` is admitted, `-a` is preempted. `reasons` collects Kueue's words."""
        told = []
        while changes := self.scheduler.run_cycles(self.now):
            self.now += 1
            told += [
                f"-{change.workload.name}" if change.eviction_reason else change.workload.name for change in changes
            ]
            self.reasons += [change.preemption_reason for change in changes if change.eviction_reason]
            if victims := [change.workload for change in changes if change.eviction_reason]:
                told += self._release_and_retry(victims, again=True)
        return told

    def _release_and_retry(self, workloads, *, again):
        """Quota is free at once; a while later those that did not fit are tried again."""
        roots = [self.scheduler.release_quota(workload, self.now, again=again) for workload in workloads]
        told = self.run_until_settled()
        for root in roots:
            self.scheduler.requeue_cohort_workloads(root, self.now)
        return told + self.run_until_settled()
