"""Pods as processes: what they see, how they end, what the API server tells of them."""

from __future__ import annotations

from pathlib import Path

from tests.kube.client import JOBS, PODS, Api, Object
from tests.kube.objects import container, holds, job
from tests.kube.plane import Plane
from tests.kube.queues import Queues

GPU = {"nvidia.com/gpu": 1}
WORKER = ["python", str(Path(__file__).parent / "workers" / "resumable.py")]


async def pod_of(plane: Plane, api: Api, namespace: str, job_name: str, phase: str) -> Object:
    """The Job's pod, once one is in that phase."""

    async def found() -> Object | None:
        pods = await api.list(PODS, namespace, labelSelector=f"batch.kubernetes.io/job-name={job_name}")
        return next((pod for pod in pods if pod["status"].get("phase") == phase), None)

    return await plane.until(f"the pod of {job_name} is {phase}", found)


async def test_a_preempted_process_is_told_and_its_pod_comes_back_to_finish(
    plane: Plane, api: Api, namespace: str, queues: Queues, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, GPU, {"worker": WORKER})
    await queues.add("lq", GPU, preemption={"withinClusterQueue": "LowerPriority"})
    high = await queues.priority("high", 1000)
    results = tmp_path / "results"
    volume = {"name": "out", "hostPath": {"path": str(results), "type": "DirectoryOrCreate"}}
    mounted = {"volumeMounts": [{"name": "out", "mountPath": "/results"}]}
    slow = container("registry.example/worker:1", ["--out=/results/slow", "--until=/results/go"], GPU, **mounted)
    fast = container("worker:1", ["--out=/results/fast"], GPU, **mounted)
    await api.create(job("slow", namespace, slow, queue="lq", pod={"volumes": [volume]}))
    first = await pod_of(plane, api, namespace, "slow", "Running")

    async def begun() -> bool:
        return "fresh" in await api.logs(namespace, first["metadata"]["name"])

    await plane.until("the log comes through the API server", begun)
    await api.create(job("fast", namespace, fast, queue="lq", priority=high, pod={"volumes": [volume]}))
    await pod_of(plane, api, namespace, "fast", "Succeeded")
    assert (results / "slow.told").read_text() == "SIGTERM"
    (results / "go").touch()
    second = await pod_of(plane, api, namespace, "slow", "Succeeded")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert "resumed" in await api.logs(namespace, second["metadata"]["name"])
    ended = second["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (0, '{"done": true}')

    async def complete() -> bool:
        return holds(await api.get(JOBS, "slow", namespace), "Complete")

    await plane.until("the Job is complete", complete)
