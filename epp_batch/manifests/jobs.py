"""Builds the Job of a unit: one pod, created suspended, which Kueue admits.

One Job per unit instead of one Indexed Job per run: each is admitted, preempted and retried separately and releases its
quota when it ends. Its name is derived from its work, so that creating it twice yields one Job.
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
from epp_batch.spec import WORK_ORDER_VARIABLE, ClusterOptions, Placement, Run, Task, Unit, WorkOrder, is_url

MANAGED_BY = "epp-batch"
RUN_LABEL = "epp-batch/run"
UNIT_LABEL = "epp-batch/unit"
MODEL_LABEL = "epp-batch/model"
HASH_ANNOTATION = "epp-batch/spec-hash"
SOURCE_ANNOTATION = "epp-batch/source"
SECONDS_ANNOTATION = "epp-batch/audio-seconds"
CONTAINER_NAME = "worker"
FATAL_EXIT_CODES = frozenset(kind.exit_code for kind in FailureKind if kind.permanent)
"""Exit codes of permanent failures, which the podFailurePolicy maps to FailJob."""
IGNORED_EXIT_CODES = frozenset({FailureKind.STOPPED.exit_code})
IGNORED_POD_CONDITION = "DisruptionTarget"
"""Pod condition of preemption, eviction and node failure, which does not count towards the backoffLimit."""
SCRATCH_PATH = "/tmp"
"""Mount path of an emptyDir: for downloads of recordings and models, since the image's home may not be writable."""
CREATION_SECONDS = 60
"""Approximate time in which all Jobs of a run are created."""
TERMINATION_GRACE_SECONDS = 60
"""Time for a preempted worker to write its current batch."""


def build_job(unit: Unit, run: Run) -> dict[str, Any]:
    """The batch/v1 Job of one unit. Raises InputError if a path is in no volume or the run has no cluster."""
    cluster = _require_cluster(run)
    placement = cluster.placement_for(unit.model)
    labels = _build_labels(unit, run, cluster, placement)
    job: dict[str, Any] = {
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
            # The only value that the API server allows beside a podFailurePolicy: a new pod when the old one has ended.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _build_failure_rules()},
            "template": {
                "metadata": {"labels": {name: labels[name] for name in (RUN_LABEL, UNIT_LABEL, MODEL_LABEL)}},
                "spec": _build_pod_spec(unit, run, cluster, placement),
            },
        },
    }
    job["metadata"]["annotations"][HASH_ANNOTATION] = hash_job_spec(job)
    return job


def hash_job_spec(job: dict[str, Any]) -> str:
    """12 hex digits over spec and labels of the Job. The controller recreates a pending Job whose hash has changed."""
    text = json.dumps([job["spec"], job["metadata"]["labels"]], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build_claim_templates(run: Run) -> list[dict[str, Any]]:
    """The ResourceClaimTemplates of the run's pods, without duplicates."""
    cluster = _require_cluster(run)
    templates: dict[str, dict[str, Any]] = {}
    for model in dict.fromkeys(unit.model for unit in run.units):
        for template in accelerators.parse_accelerator(cluster.placement_for(model).accelerator).claim_templates():
            template["metadata"]["namespace"] = cluster.namespace
            templates[template["metadata"]["name"]] = template
    return list(templates.values())


def build_work_order(unit: Unit, run: Run) -> WorkOrder:
    """The unit's work order, with paths as in the pod.

    Raises InputError for a path in no volume or a read-only output.
    """
    cluster = _require_cluster(run)
    output = translate_path(run.output, cluster.volumes)
    if output is None:
        raise InputError(f"{run.output}: not in a volume", remedy=f"give --volume pvc/NAME={run.output}[:MOUNT]")
    if is_read_only(run.output, cluster.volumes):
        raise InputError(
            f"{run.output}: in a read-only volume", remedy="mount it without :ro, or choose another output"
        )
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
    """Jobs to create per second so that `count` Jobs take about CREATION_SECONDS, at least 1.

    Kueue orders Workloads of equal priority by creation time in whole seconds, then by uid, which is random
    (`baseCompareFunc` in v0.19, pkg/cache/queue/cluster_queue.go): the fewer Jobs share a second, the closer the
    admission order is to the unit order.
    """
    return max(1, math.ceil(count / CREATION_SECONDS))


def sanitize_label_value(text: str) -> str:
    """`text` as a valid label value: at most 63 letters, digits, `-`, `_` and `.`, alphanumeric at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-_.")


def _require_cluster(run: Run) -> ClusterOptions:
    if run.cluster is None:
        raise InputError(
            f"run {run.name} has no cluster settings", remedy="submit it, or continue it with epp-batch transcribe"
        )
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
    others = f" and {len(unit.tasks) - 1} more" if len(unit.tasks) > 1 else ""
    duration = {} if unit.seconds is None else {SECONDS_ANNOTATION: f"{unit.seconds:.3f}"}
    return {SOURCE_ANNOTATION: first + others, **duration}


def _build_failure_rules() -> list[dict[str, Any]]:
    """Rules of the podFailurePolicy; a failure that matches none counts towards the backoffLimit.

    Order matters, the first match applies: a permanent failure ends the Job even if the pod is also being evicted.
    """

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
        "automountServiceAccountToken": False,  # the worker does not talk to the API server
        "enableServiceLinks": False,
        # Here and below: what the Pod Security Standard `restricted` requires; runAsNonRoot only with --run-as.
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **_build_user_context(cluster.run_as)},
        "containers": [
            {
                "name": CONTAINER_NAME,
                "image": cluster.image,
                "args": ["worker"],
                "env": _build_environment(unit, run),
                "resources": _build_resources(accelerator, placement),
                "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_PATH}, *mounts],
                # The end of the log explains a worker that died before it wrote its termination message.
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
    """Requests and limits. No defaults: Kueue admits a Workload only if the queue covers every requested resource."""
    requests = accelerator.container_resources()
    limits = dict(requests)
    if placement.cpu:
        requests["cpu"] = placement.cpu
    if placement.memory:
        requests["memory"] = limits["memory"] = placement.memory
    resources: dict[str, Any] = {
        name: values for name, values in (("requests", requests), ("limits", limits)) if values
    }
    if accelerator.resource_claims():
        resources["claims"] = [{"name": CLAIM_NAME}]
    return resources


def _translate_task(task: Task, cluster: ClusterOptions) -> Task:
    """The task with its source as a path in the pod, and without the reference, which only reports need."""
    recording = task.recording
    source = recording.source
    if not is_url(source):
        path = translate_path(source, cluster.volumes)
        if path is None:
            remedy = "give --volume pvc/NAME=LOCAL[:MOUNT] with a folder LOCAL that contains it"
            raise InputError(f"{source}: not in a volume", remedy=remedy)
        source = path
    return Task(recording=msgspec.structs.replace(recording, source=source, reference=None), model=task.model)
