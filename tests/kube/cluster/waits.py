"""What tests wait for most; a timeout shows the last status, and an end of another kind is an error at once."""

from __future__ import annotations

from tests.kube.cluster.client import JOBS, PODS, Api, Object
from tests.kube.cluster.objects import holds
from tests.kube.cluster.plane import NotYet, Plane

_FINAL = frozenset({"Succeeded", "Failed"})


async def pod_in(plane: Plane, api: Api, namespace: str, name: str, phase: str, limit: float = 60.0) -> Object:
    """The pod, once it is in that phase."""

    async def reached() -> Object:
        pod = await api.get(PODS, name, namespace)
        seen = pod["status"].get("phase")
        assert seen == phase or seen not in _FINAL, f"pod {name} is {seen}: {pod['status']}"
        if seen != phase:
            raise NotYet(pod["status"])
        return pod

    return await plane.until(f"pod {name} is {phase}", reached, limit)


async def job_pod(plane: Plane, api: Api, namespace: str, job: str, phase: str, limit: float = 60.0) -> Object:
    """A pod of the Job, once one is in that phase."""

    async def reached() -> Object:
        pods = await api.list(PODS, namespace, labelSelector=f"batch.kubernetes.io/job-name={job}")
        for pod in pods:
            if pod["status"].get("phase") == phase:
                return pod
        raise NotYet([pod["status"] for pod in pods])

    return await plane.until(f"a pod of {job} is {phase}", reached, limit)


async def job_in(
    plane: Plane, api: Api, namespace: str, name: str, condition: str = "Complete", limit: float = 60.0
) -> Object:
    """The Job, once the condition holds."""

    async def reached() -> Object:
        job = await api.get(JOBS, name, namespace)
        if not holds(job, condition):
            assert not holds(job, "Complete"), f"job {name} is complete"
            assert not holds(job, "Failed"), f"job {name} has failed: {job['status']}"
            raise NotYet(job["status"])
        return job

    return await plane.until(f"job {name} is {condition}", reached, limit)


async def pod_waits(plane: Plane, api: Api, namespace: str, name: str, reason: str) -> str:
    """The message of a container that waits for that reason."""

    async def reached() -> str:
        status = (await api.get(PODS, name, namespace))["status"]
        for container in status.get("containerStatuses", []):
            waiting: Object = container["state"].get("waiting", {})
            if waiting.get("reason") == reason:
                return str(waiting["message"])
        raise NotYet(status)

    return await plane.until(f"pod {name} waits: {reason}", reached)


async def pod_gone(plane: Plane, api: Api, namespace: str, name: str) -> None:
    """Returns once no pod has that name."""

    async def absent() -> bool:
        found = [pod for pod in await api.list(PODS, namespace) if pod["metadata"]["name"] == name]
        if found:
            raise NotYet(found[0]["status"])
        return True

    await plane.until(f"pod {name} is gone", absent)
