"""Common waits: a timeout shows the last status, and a final phase other than the expected one fails at once."""

from __future__ import annotations

from tests.kube.cluster.client import JOBS, PODS, KubeApi, Object
from tests.kube.cluster.objects import has_condition
from tests.kube.cluster.plane import ControlPlane, NotReady

_FINAL = frozenset({"Succeeded", "Failed"})


async def wait_for_pod_phase(
    plane: ControlPlane, api: KubeApi, namespace: str, name: str, phase: str, limit: float = 60.0
) -> Object:
    """Waits for a phase of a pod; returns the pod."""

    async def reached() -> Object:
        pod = await api.get(PODS, name, namespace)
        seen = pod["status"].get("phase")
        assert seen == phase or seen not in _FINAL, f"pod {name} is {seen}: {pod['status']}"
        if seen != phase:
            raise NotReady(pod["status"])
        return pod

    return await plane.wait_until(f"pod {name} is {phase}", reached, limit)


async def wait_for_job_pod(
    plane: ControlPlane, api: KubeApi, namespace: str, job: str, phase: str, limit: float = 60.0
) -> Object:
    """Waits until a pod of the Job is in a phase; returns the pod."""

    async def reached() -> Object:
        pods = await api.list(PODS, namespace, labelSelector=f"batch.kubernetes.io/job-name={job}")
        for pod in pods:
            if pod["status"].get("phase") == phase:
                return pod
        raise NotReady([pod["status"] for pod in pods])

    return await plane.wait_until(f"a pod of {job} is {phase}", reached, limit)


async def wait_for_job_condition(
    plane: ControlPlane, api: KubeApi, namespace: str, name: str, condition: str = "Complete", limit: float = 60.0
) -> Object:
    """Waits for a condition of a Job; returns the Job."""

    async def reached() -> Object:
        job = await api.get(JOBS, name, namespace)
        if not has_condition(job, condition):
            assert not has_condition(job, "Complete"), f"job {name} is complete"
            assert not has_condition(job, "Failed"), f"job {name} has failed: {job['status']}"
            raise NotReady(job["status"])
        return job

    return await plane.wait_until(f"job {name} is {condition}", reached, limit)


async def wait_for_container_reason(plane: ControlPlane, api: KubeApi, namespace: str, name: str, reason: str) -> str:
    """Waits until a container waits for that reason; returns its message."""

    async def reached() -> str:
        status = (await api.get(PODS, name, namespace))["status"]
        for container in status.get("containerStatuses", []):
            waiting: Object = container["state"].get("waiting", {})
            if waiting.get("reason") == reason:
                return str(waiting["message"])
        raise NotReady(status)

    return await plane.wait_until(f"pod {name} waits: {reason}", reached)


async def wait_for_pod_deletion(plane: ControlPlane, api: KubeApi, namespace: str, name: str) -> None:
    """Returns once no pod has that name."""

    async def absent() -> bool:
        found = [pod for pod in await api.list(PODS, namespace) if pod["metadata"]["name"] == name]
        if found:
            raise NotReady(found[0]["status"])
        return True

    await plane.wait_until(f"pod {name} is gone", absent)
