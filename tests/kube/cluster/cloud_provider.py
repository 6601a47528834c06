"""Stands in for a cloud provider and for the controllers that the control plane does not run."""

from __future__ import annotations

from tests.kube.cluster.client import NODES, PODS, STRATEGIC, ApiError, KubeApi, Object


async def remove_node(api: KubeApi, name: str) -> None:
    """Deletes a Node, and its pods as the pod garbage collector does, without its grace period of 40 s.

    A pod that had not ended is Failed with the condition DisruptionTarget, so that a podFailurePolicy sees why.
    """
    await api.delete(NODES, name)
    for pod in await api.list(PODS, fieldSelector=f"spec.nodeName={name}"):
        await _garbage_collect_pod(api, pod)


async def _garbage_collect_pod(api: KubeApi, pod: Object) -> None:
    metadata = pod["metadata"]
    if pod["status"].get("phase") not in {"Succeeded", "Failed"}:
        reason = {"reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"}
        condition = {"type": "DisruptionTarget", "status": "True", **reason}
        change = {"metadata": {"uid": metadata["uid"]}, "status": {"phase": "Failed", "conditions": [condition]}}
        path = PODS.path(metadata["namespace"], metadata["name"]) + "/status"
        try:
            await api.request("PATCH", path, change, content_type=STRATEGIC)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
    await api.delete(PODS, metadata["name"], metadata["namespace"], gracePeriodSeconds="0")
