"""Builds objects that tests create in the API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kube.cluster.client import Object

QUEUE = "kueue.x-k8s.io/queue-name"
PRIORITY = "kueue.x-k8s.io/priority-class"
RUNS_FOR = "tests/runs-for"  # annotation of pods on KWOK nodes: "3s"
EXIT_CODE = "tests/exit-code"


def build_kwok_node(name: str, devices: Mapping[str, int] = {}, labels: Mapping[str, str] = {}) -> Object:
    """A node simulated by KWOK."""
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "110", **{k: str(v) for k, v in devices.items()}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"type": "kwok", "kubernetes.io/hostname": name, **labels}},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def build_container(
    image: str = "none", args: Sequence[str] = (), devices: Mapping[str, int] = {}, **more: Any
) -> Object:
    """One container, named "main"; `devices` become limits."""
    limits = {name: str(count) for name, count in devices.items()}
    return {"name": "main", "image": image, "args": list(args), "resources": {"limits": limits}, **more}


def build_pod(name: str, namespace: str, main: Object, **spec: Any) -> Object:
    """A pod for the test's own nodes that is not restarted; keywords go into its spec."""
    place = {"name": name, "namespace": namespace, "labels": {"app": "x"}}
    spec = {"restartPolicy": "Never", "nodeSelector": {"test": namespace}, "containers": [main], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": spec}


def build_job(
    name: str,
    namespace: str,
    main: Object,
    *,
    queue: str = "",
    priority: str = "",
    runs_for: str = "",
    annotations: Mapping[str, str] = {},
    pod: Mapping[str, Any] = {},
    **spec: Any,
) -> Object:
    """A suspended single-pod Job for a queue, or one that starts at once without a queue.

    `runs_for` is how long KWOK runs it; `pod` goes into the pod's spec, further keywords into the Job's.
    """
    labels = {QUEUE: queue} if queue else {}
    if priority:
        labels[PRIORITY] = priority
    notes = {**annotations, **({RUNS_FOR: runs_for} if runs_for else {})}
    template = {
        "metadata": {"annotations": notes},
        "spec": {"restartPolicy": "Never", "containers": [main], **pod},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"suspend": bool(queue), "backoffLimit": 0, "template": template, **spec},
    }


def has_condition(document: Object, condition: str) -> bool:
    """Whether a condition of the status is True."""
    conditions = document.get("status", {}).get("conditions") or ()
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def condition_reason(document: Object, condition: str) -> str:
    """The reason of a condition; empty if the condition is not there."""
    conditions = document.get("status", {}).get("conditions") or ()
    return next((str(c.get("reason", "")) for c in conditions if c["type"] == condition), "")
