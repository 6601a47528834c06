"""A unit as a suspended single-pod Job for Kueue to admit.

One Job a unit, not one Indexed Job: each is admitted, preempted and retried alone, and gives its quota back when it
ends. The name says what it does, so that creating it twice makes one Job.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

import msgspec

from epp_batch.errors import FailureKind, InputError
from epp_batch.manifests import accelerators
from epp_batch.manifests.accelerators import CLAIM_NAME
from epp_batch.manifests.volumes import build_pod_volumes, is_read_only, translate_path
from epp_batch.spec import WORK_ORDER_VARIABLE, ClusterOptions, Placement, Run, Task, Unit, WorkOrder

MANAGED_BY = "epp-batch"
RUN_LABEL = "epp-batch/run"
UNIT_LABEL = "epp-batch/unit"
MODEL_LABEL = "epp-batch/model"
HASH_ANNOTATION = "epp-batch/spec-hash"
SOURCE_ANNOTATION = "epp-batch/source"
SECONDS_ANNOTATION = "epp-batch/audio-seconds"
CONTAINER_NAME = "worker"
FATAL_EXIT_CODES = frozenset(kind.exit_code for kind in FailureKind if kind.permanent)
"""Exit codes that end a Job: what cannot get better."""
IGNORED_EXIT_CODES = frozenset({FailureKind.STOPPED.exit_code})
IGNORED_POD_CONDITION = "DisruptionTarget"
"""What a node or Kueue did to a pod, which is no failure of the Job."""
SCRATCH_PATH = "/tmp"
CREATION_SECONDS = 60
TERMINATION_GRACE_SECONDS = 60
"""For a worker that is preempted to write what it has."""


def build_job(unit: Unit, run: Run) -> dict[str, Any]:
    """The batch/v1 Job of one unit. InputError where a path lies in no volume, or the run is not for a cluster."""
    cluster = _require_cluster(run)
    placement = cluster.placement_for(unit.model)
    labels = _build_labels(unit, run, cluster, placement)
    made: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": unit.name,
            "namespace": cluster.namespace,
            "labels": labels,
            "annotations": _build_annotations(unit),
        },
        "spec": {
            "suspend": True,
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": cluster.retries,
            "ttlSecondsAfterFinished": cluster.ttl_seconds,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _build_failure_rules()},
            "template": {
                "metadata": {"labels": {name: labels[name] for name in (RUN_LABEL, UNIT_LABEL, MODEL_LABEL)}},
                "spec": _build_pod_spec(unit, run, cluster, placement),
            },
        },
    }
    made["metadata"]["annotations"][HASH_ANNOTATION] = hash_job_spec(made)
    return made


def hash_job_spec(made: dict[str, Any]) -> str:
    """12 hex digits over what the Job does and where it waits: one that still waits is made anew when they change."""
    text = json.dumps([made["spec"], made["metadata"]["labels"]], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build_claim_templates(run: Run) -> list[dict[str, Any]]:
    """ResourceClaimTemplates that the run's pods name, each once."""
    cluster = _require_cluster(run)
    made: dict[str, dict[str, Any]] = {}
    for model in dict.fromkeys(unit.model for unit in run.units):
        for template in accelerators.parse_accelerator(cluster.placement_for(model).accelerator).claim_templates():
            template["metadata"]["namespace"] = cluster.namespace
            made[template["metadata"]["name"]] = template
    return list(made.values())


def build_work_order(unit: Unit, run: Run) -> WorkOrder:
    """What the unit's worker is told, with paths as it sees them; InputError names a path that no volume holds."""
    cluster = _require_cluster(run)
    output = translate_path(run.output, cluster.volumes)
    if output is None:
        raise InputError(f"{run.output}: in no volume", remedy=f"--volume pvc/NAME={run.output}[:MOUNT]")
    if is_read_only(run.output, cluster.volumes):
        raise InputError(f"{run.output}: in a read-only volume", remedy="mount it without :ro, or write elsewhere")
    return WorkOrder(
        run=run.name,
        unit=unit.name,
        output=output,
        options=run.options,
        tasks=tuple(_translate_task(task, cluster) for task in unit.tasks),
        model_path=cluster.placement_for(unit.model).model_path,
        fetch_model=run.fetch_model,
        max_seconds=run.max_seconds,
    )


def compute_creation_rate(count: int) -> int:
    """How many of `count` Jobs to create a second for Kueue to take them in their order, within about a minute in all.

    Kueue orders Workloads of one priority by their creation in whole seconds, and those of one second by their uid,
    which is chance (v0.19, cluster_queue.go).
    """
    return max(1, math.ceil(count / CREATION_SECONDS))


def sanitize_label_value(text: str) -> str:
    """`text` as a label's value: at most 63 of letters, digits, `-`, `_` and `.`, alphanumeric at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-_.")


def _require_cluster(run: Run) -> ClusterOptions:
    if run.cluster is None:
        raise InputError(f"run {run.name} is not for a cluster", remedy="submit it, or go on with epp-batch transcribe")
    return run.cluster


def _build_labels(unit: Unit, run: Run, cluster: ClusterOptions, placement: Placement) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/managed-by": MANAGED_BY,
        RUN_LABEL: run.name,
        UNIT_LABEL: unit.name,
        MODEL_LABEL: sanitize_label_value(unit.model),
        "kueue.x-k8s.io/queue-name": placement.queue or cluster.queue,
    }
    if placement.priority_class:
        labels["kueue.x-k8s.io/priority-class"] = placement.priority_class
    if cluster.max_exec_seconds:
        labels["kueue.x-k8s.io/max-exec-time-seconds"] = str(cluster.max_exec_seconds)
    return labels


def _build_annotations(unit: Unit) -> dict[str, str]:
    first = unit.tasks[0].recording.source
    more = f" and {len(unit.tasks) - 1} more" if len(unit.tasks) > 1 else ""
    length = {} if unit.seconds is None else {SECONDS_ANNOTATION: f"{unit.seconds:.3f}"}
    return {SOURCE_ANNOTATION: first + more, **length}


def _build_failure_rules() -> list[dict[str, Any]]:
    """Of exit codes and conditions; whatever fails otherwise counts."""

    def on_exit(action: str, codes: frozenset[int]) -> dict[str, Any]:
        values = sorted(codes)
        return {"action": action, "onExitCodes": {"containerName": CONTAINER_NAME, "operator": "In", "values": values}}

    return [
        on_exit("FailJob", FATAL_EXIT_CODES),
        {"action": "Ignore", "onPodConditions": [{"type": IGNORED_POD_CONDITION, "status": "True"}]},
        on_exit("Ignore", IGNORED_EXIT_CODES),
    ]


def _build_pod_spec(unit: Unit, run: Run, cluster: ClusterOptions, placement: Placement) -> dict[str, Any]:
    accelerator = accelerators.parse_accelerator(placement.accelerator)
    volumes, mounts = build_pod_volumes(cluster.volumes)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **_build_user_context(cluster.run_as)},
        "containers": [
            {
                "name": CONTAINER_NAME,
                "image": cluster.image,
                "args": ["worker"],
                "env": _build_environment(unit, run),
                "resources": _build_resources(accelerator, placement),
                "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_PATH}, *mounts],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
    }
    if claims := accelerator.resource_claims():
        spec["resourceClaims"] = claims
    if cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    if cluster.service_account:
        spec["serviceAccountName"] = cluster.service_account
    return spec


def _build_user_context(run_as: str | None) -> dict[str, Any]:
    if run_as is None:
        return {}
    uid, _, gid = run_as.partition(":")
    group = {"runAsGroup": int(gid), "fsGroup": int(gid)} if gid else {}
    return {"runAsUser": int(uid), **({"runAsNonRoot": True} if int(uid) else {}), **group}


def _build_environment(unit: Unit, run: Run) -> list[dict[str, Any]]:
    return [
        {"name": WORK_ORDER_VARIABLE, "value": msgspec.json.encode(build_work_order(unit, run)).decode()},
        {"name": "HF_HOME", "value": f"{SCRATCH_PATH}/huggingface"},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]


def _build_resources(accelerator: accelerators.Accelerator, placement: Placement) -> dict[str, Any]:
    """Requests and limits. Only what was asked for: Kueue admits nothing whose queue does not cover all of it."""
    requests = accelerator.container_resources()
    limits = dict(requests)
    if placement.cpu:
        requests["cpu"] = placement.cpu
    if placement.memory:
        requests["memory"] = limits["memory"] = placement.memory
    made: dict[str, Any] = {name: values for name, values in (("requests", requests), ("limits", limits)) if values}
    if accelerator.resource_claims():
        made["claims"] = [{"name": CLAIM_NAME}]
    return made


def _translate_task(task: Task, cluster: ClusterOptions) -> Task:
    recording = task.recording
    source = recording.source
    if not source.startswith(("http://", "https://")):
        seen = translate_path(source, cluster.volumes)
        if seen is None:
            raise InputError(f"{source}: in no volume", remedy="--volume pvc/NAME=LOCAL[:MOUNT] with LOCAL above it")
        source = seen
    return Task(recording=msgspec.structs.replace(recording, source=source, reference=None), model=task.model)
