"""What a cloud provider and the controllers that the plane leaves out would do."""

from __future__ import annotations

from tests.kube.cluster.client import NODES, PODS, STRATEGIC, Api, ApiError, Object


async def remove_node(api: Api, name: str) -> None:
    """Deletes a Node, and its pods as the pod garbage collector does, without its 40 s of patience.

    A pod that had not ended is Failed with the condition DisruptionTarget, so that a podFailurePolicy sees why.
    """
    await api.delete(NODES, name)
    for pod in await api.list(PODS, fieldSelector=f"spec.nodeName={name}"):
        await _collect(api, pod)


async def _collect(api: Api, pod: Object) -> None:
    place = pod["metadata"]
    if pod["status"].get("phase") not in {"Succeeded", "Failed"}:
        reason = {"reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"}
        condition = {"type": "DisruptionTarget", "status": "True", **reason}
        change = {"metadata": {"uid": place["uid"]}, "status": {"phase": "Failed", "conditions": [condition]}}
        path = PODS.path(place["namespace"], place["name"]) + "/status"
        try:
            await api.request("PATCH", path, change, content=STRATEGIC)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise
    await api.delete(PODS, place["name"], place["namespace"], gracePeriodSeconds="0")
