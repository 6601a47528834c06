"""Small worlds and demands."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from epp_batch.planner import PAPER, Demand, Kueue, demands
from epp_batch.planner.demand import shape
from epp_batch.planner.scheduler import Queues
from epp_batch.planner.world import ClusterQueue, Group, Offer, Quota, World
from epp_batch.spec import Cluster, Placement, Recording, Task, Unit

JOBS = Path(__file__).parents[4] / "bench" / "paper" / "jobs.csv"
GPU = "nvidia.com/gpu"


def queue(name: str, gpus: int, **more) -> ClusterQueue:
    """One flavor, GPUs only; `borrowing` and `lending` go into the quota."""
    quota = Quota(gpus, more.pop("borrowing", None), more.pop("lending", None))
    return ClusterQueue(name=name, groups=(Group((GPU,), (Offer("f", {GPU: quota}),)),), **more)


def kueue(*queues: ClusterQueue, **more) -> Kueue:
    """Each ClusterQueue has a LocalQueue of the same name."""
    return Kueue(queues=queues, local={queue.name: queue.name for queue in queues}, **more)


def demand(
    unit: str, queue: str = "q", *, gpus: int = 1, priority: int = 0, work: float = 100, accelerator: str = ""
) -> Demand:
    wanted = shape(accelerator or f"gpu:{gpus}")
    return Demand(
        unit=unit, model="m", queue=queue, priority=priority, shape=wanted, slots=8 * gpus, requests=wanted.requests(),
        startup=0, work=work,
    )  # fmt: skip


def paper_units() -> list[Unit]:
    """The paper's 32 jobs in its order."""
    with JOBS.open() as file:
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


def paper_demands(world: World, accelerators: Mapping[str, str]) -> list[Demand]:
    placements = {model: Placement(accelerator=kind) for model, kind in accelerators.items()}
    cluster = Cluster(namespace="b", queue="q", image="i", placements=placements)
    return demands(paper_units(), cluster, PAPER, world)


class Rig:
    """Kueue, and who is admitted; victims go at once."""

    def __init__(self, kueue: Kueue) -> None:
        self.queues = Queues(kueue)
        self.workloads = {}
        self.now = 0.0
        self.reasons: list[str] = []

    @classmethod
    def of(cls, *queues: ClusterQueue, **more) -> Rig:
        return cls(kueue(*queues, **more))

    def submit(self, *wanted):
        told = []
        for one in wanted:
            self.now += 1
            self.workloads[one.unit] = self.queues.submit(one, self.now)
            told += self.settle()
        return told

    def finish(self, name):
        return self._release([self.workloads[name]], again=False)

    def settle(self):
        """What happens until nothing changes: `a` is admitted, `-a` is preempted. `reasons` collects Kueue's words."""
        told = []
        while changes := self.queues.settle(self.now):
            self.now += 1
            told += [f"-{change.workload.name}" if change.evicted else change.workload.name for change in changes]
            self.reasons += [change.why for change in changes if change.evicted]
            if victims := [change.workload for change in changes if change.evicted]:
                told += self._release(victims, again=True)
        return told

    def _release(self, workloads, *, again):
        """Quota is free at once; a while later those that did not fit are tried again."""
        roots = [self.queues.release(workload, self.now, again=again) for workload in workloads]
        told = self.settle()
        for root in roots:
            self.queues.retry(root, self.now)
        return told + self.settle()
