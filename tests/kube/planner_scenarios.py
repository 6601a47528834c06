"""Scenarios of submitted and finished Jobs, to be played on real Kueue and on the planner."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

GPU = "nvidia.com/gpu"
VERSION = "kueue.x-k8s.io/v1beta2"


class Submit(NamedTuple):
    """Submits a Job; `priority` 3 is the WorkloadPriorityClass p3, of p0 to p9."""

    job: str
    queue: str
    gpus: int = 1
    priority: int = 0


class Finish(NamedTuple):
    """The Job's pod succeeds; nothing happens if the Job is not admitted."""

    job: str


class Queue(NamedTuple):
    """One ClusterQueue with a LocalQueue of the same name."""

    name: str
    nominal: int
    borrowing: int | None = None
    lending: int | None = None
    spec: Mapping[str, Any] = MappingProxyType({})


class Scenario(NamedTuple):
    """Queues, cohorts (name -> parent) and steps. Names are unique within a scenario only."""

    name: str
    queues: tuple[Queue, ...]
    steps: tuple[Submit | Finish, ...]
    cohorts: Mapping[str, str] = MappingProxyType({})

    def objects(self, namespace: str, flavor: str) -> list[dict[str, Any]]:
        """Kueue's objects; names of cluster-scoped ones are prefixed with the namespace."""
        prefix = f"{namespace}-{self.name}"
        objects = []
        for cohort, parent in self.cohorts.items():
            spec = {"parentName": f"{prefix}-{parent}"} if parent else {}
            objects.append(_build_object("Cohort", f"{prefix}-{cohort}", spec))
        for queue in self.queues:
            limits = {"borrowingLimit": queue.borrowing, "lendingLimit": queue.lending}
            quota = {"name": GPU, "nominalQuota": queue.nominal, **{k: v for k, v in limits.items() if v is not None}}
            spec = {
                "namespaceSelector": {},
                "resourceGroups": [{"coveredResources": [GPU], "flavors": [{"name": flavor, "resources": [quota]}]}],
                **queue.spec,
            }
            if "cohortName" in spec:
                spec["cohortName"] = f"{prefix}-{spec['cohortName']}"
            objects.append(_build_object("ClusterQueue", f"{prefix}-{queue.name}", spec))
            local = _build_object("LocalQueue", f"{self.name}-{queue.name}", {"clusterQueue": f"{prefix}-{queue.name}"})
            objects.append({**local, "metadata": {**local["metadata"], "namespace": namespace}})
        return objects


def _build_object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def within_cluster_queue_spec(policy: str) -> dict[str, Any]:
    """Fields of a ClusterQueue's spec: preemption within the queue by a policy."""
    return {"preemption": {"withinClusterQueue": policy}}


def cohort_spec(name: str, **preemption: Any) -> dict[str, Any]:
    """Fields of a ClusterQueue's spec: its cohort, and `preemption`."""
    return {"cohortName": name, **({"preemption": preemption} if preemption else {})}


STRICT_FIFO = {"queueingStrategy": "StrictFIFO"}
BORROW_LOW = {"policy": "LowerPriority", "maxPriorityThreshold": 3}
SCENARIOS = (
    Scenario(
        "priority",
        (Queue("q", 3, spec=within_cluster_queue_spec("LowerPriority")),),
        (
            Submit("mid", "q", priority=2), Submit("old", "q", priority=1), Submit("new", "q", priority=1),
            Submit("equal", "q", priority=1), Submit("urgent", "q", gpus=2, priority=5), Finish("urgent"),
            Finish("mid"),
        ),
    ),
    Scenario(
        "minimal",
        (Queue("q", 4, spec=within_cluster_queue_spec("LowerPriority")),),
        (
            Submit("one", "q", priority=1), Submit("three", "q", gpus=3, priority=1),
            Submit("urgent", "q", gpus=3, priority=3), Finish("one"), Finish("urgent"),
        ),
    ),
    Scenario(
        "freed",
        (Queue("q", 1),),
        (
            Submit("a", "q"), Submit("b", "q"), Submit("c", "q"), Submit("high", "q", priority=7), Finish("a"),
            Finish("high"), Finish("b"),
        ),
    ),
    Scenario(
        "strict",
        (Queue("q", 3, spec=STRICT_FIFO),),
        (
            Submit("a", "q", gpus=2), Submit("big", "q", gpus=3), Submit("small", "q"), Finish("a"), Finish("big"),
        ),
    ),
    Scenario(
        "besteffort",
        (Queue("q", 3),),
        (
            Submit("a", "q", gpus=2), Submit("big", "q", gpus=3), Submit("small", "q"), Finish("a"), Finish("small"),
        ),
    ),
    Scenario(
        "reclaim",
        (Queue("a", 2, spec=cohort_spec("c")), Queue("b", 2, spec=cohort_spec("c", reclaimWithinCohort="Any"))),
        (
            *(Submit(f"a{i}", "a") for i in range(5)), Submit("b0", "b"), Submit("b1", "b"), Submit("b2", "b"),
            Finish("b0"), Finish("a0"),
        ),
    ),
    Scenario(
        "lower",
        (
            Queue("a", 1, spec=cohort_spec("c")),
            Queue("b", 1, spec=cohort_spec("c", reclaimWithinCohort="LowerPriority")),
        ),
        (
            Submit("a0", "a", priority=5), Submit("a1", "a", priority=4), Submit("b0", "b", priority=4),
            Submit("b1", "b", priority=5), Finish("a0"), Finish("b1"),
        ),
    ),
    Scenario(
        "limits",
        (Queue("medium", 4, borrowing=0, lending=3, spec=cohort_spec("c")), Queue("large", 4, spec=cohort_spec("c"))),
        (
            *(Submit(f"l{i}", "large", gpus=2) for i in range(4)), Submit("m0", "medium", gpus=2),
            Submit("m1", "medium"), Finish("l0"), Finish("l1"), Submit("m2", "medium", gpus=2), Finish("m1"),
            Finish("l2"),
        ),
    ),
    Scenario(
        "threshold",
        (
            Queue("a", 2, spec=cohort_spec("c")), Queue("b", 1, spec=cohort_spec("c")),
            Queue("p", 2, spec=cohort_spec("c", reclaimWithinCohort="LowerPriority", borrowWithinCohort=BORROW_LOW)),
        ),
        (
            Submit("a0", "a"), Submit("b0", "b"), Submit("b1", "b", gpus=3, priority=3),
            Submit("wide", "p", gpus=3, priority=5), Finish("wide"), Finish("a0"), Finish("b1"),
        ),
    ),
    Scenario(
        "tree",
        (
            Queue("a", 1, spec=cohort_spec("left")), Queue("b", 1, spec=cohort_spec("left", reclaimWithinCohort="Any")),
            Queue("d", 2, spec=cohort_spec("right", reclaimWithinCohort="Any")),
        ),
        (
            *(Submit(f"a{i}", "a") for i in range(4)), Submit("d0", "d"), Submit("b0", "b"), Submit("d1", "d"),
            Finish("d0"), Finish("d1"),
        ),
        {"left": "root", "right": "root", "root": ""},
    ),
)  # fmt: skip


def random_scenario(seed: int, step_count: int = 14) -> Scenario:
    """Three queues with random preemption policies, and random steps."""
    rng = random.Random(seed)
    policies = ("Never", "LowerPriority", "Any")
    queues = tuple(
        Queue(
            name, rng.randint(1, 3), lending=rng.choice([None, None, 1]),
            spec=cohort_spec(
                "c",
                withinClusterQueue=rng.choice(["Never", "LowerPriority", "LowerPriority"]),
                reclaimWithinCohort=(reclaim := rng.choice(policies)),
                **({"borrowWithinCohort": BORROW_LOW} if reclaim != "Never" and rng.random() < 0.4 else {}),
            )
            | (STRICT_FIFO if rng.random() < 0.25 else {}),
        )
        for name in ("x", "y", "z")
    )  # fmt: skip
    drawn: list[Submit | Finish] = []
    for number in range(step_count):
        jobs = [step.job for step in drawn if isinstance(step, Submit)]
        if len(jobs) > 3 and rng.random() < 0.3:
            drawn.append(Finish(rng.choice(jobs)))
        else:
            queue = rng.choice("xyz")
            drawn.append(Submit(f"j{number}", queue, rng.choice([1, 1, 2]), rng.choice([0, 1, 4, 5])))
    return Scenario(f"seed{seed}", queues, tuple(drawn))
