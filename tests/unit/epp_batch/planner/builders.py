"""Small worlds and demands."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from epp_batch.planner import PAPER, Demand, Kueue, demands
from epp_batch.planner.demand import shape
from epp_batch.planner.world import ClusterQueue, Group, Offer, Quota, World
from epp_batch.work import Cluster, Placement, Recording, Task, Unit

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
