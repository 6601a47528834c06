"""The paper's 32 jobs: lengths of Earnings22 recordings, as its artifact picks them.

In the order of file names, medium transcribes numbers 0 to 15 and large 50 to 65; Jobs alternate between the two, one
per second (kube-burner, qps 1). jobs.csv has their lengths from the metadata.csv of Earnings22
(revdotcom/speech-datasets, CC BY-SA 4.0).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from epp_batch.spec import ClusterOptions, Placement, Recording, Task, Unit

JOBS_FILE = Path(__file__).with_name("jobs.csv")
SUBMIT_INTERVAL = 1.0
"""Seconds between two submissions."""
LOCAL_QUEUES = {"medium": "local-queue-medium", "large": "local-queue-large"}


def load_units() -> list[Unit]:
    """The units in the paper's order."""
    with JOBS_FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loaded = []
    for number, row in enumerate(rows):
        recording = Recording(source=row["source"], stems=(Path(row["source"]).stem,), seconds=float(row["seconds"]))
        name = f"{row['model']}-{number // 2:02}"
        loaded.append(Unit(name=name, tasks=(Task(recording=recording, model=row["model"]),)))
    return loaded


def build_cluster(accelerators: Mapping[str, str], queue: str = "", priority: str = "") -> ClusterOptions:
    """Placements of both models; `queue` replaces the paper's queue for each model, `priority` is large's class."""
    placements = {
        model: Placement(
            accelerator=kind,
            queue=queue or LOCAL_QUEUES[model],
            priority_class=priority if model == "large" and priority else None,
        )
        for model, kind in accelerators.items()
    }
    return ClusterOptions(namespace="batch", queue=queue, image="none", placements=placements)
