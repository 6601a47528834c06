"""Nodes whose pods are processes: preemption, disruption, outages, servers, the agent as a command."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.kube.cluster.client import DEPLOYMENTS, JOBS, NODES, PODS, Api, ApiError
from tests.kube.cluster.cloud_provider import remove_node
from tests.kube.cluster.objects import container, holds, job, pod, reason
from tests.kube.cluster.plane import Plane
from tests.kube.cluster.queues import Queues
from tests.kube.cluster.waits import job_in, job_pod, pod_gone, pod_in

GPU = {"nvidia.com/gpu": 1}
WORKERS = Path(__file__).parent / "workers"
WORKER = ["python", str(WORKERS / "resumable.py")]


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
    first = await job_pod(plane, api, namespace, "slow", "Running")

    async def begun() -> bool:
        return "fresh" in await api.logs(namespace, first["metadata"]["name"])

    await plane.until("the log comes through the API server", begun)
    await api.create(job("fast", namespace, fast, queue="lq", priority=high, pod={"volumes": [volume]}))
    await job_pod(plane, api, namespace, "fast", "Succeeded")
    assert (results / "slow.told").read_text() == "SIGTERM"
    (results / "go").touch()
    second = await job_pod(plane, api, namespace, "slow", "Succeeded")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert "resumed" in await api.logs(namespace, second["metadata"]["name"])
    ended = second["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (0, '{"done": true}')
    await job_in(plane, api, namespace, "slow")


async def test_more_devices_than_there_are_fail_the_pod_that_was_bound_past_the_scheduler(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, GPU, {"worker": WORKER})
    main = container("worker", [f"--out={tmp_path / 'x'}"], {"nvidia.com/gpu": 2})
    node = f"{namespace}-p0"
    await api.create(pod("greedy", namespace, main, nodeName=node))
    refused = await pod_in(plane, api, namespace, "greedy", "Failed")
    assert refused["status"]["reason"] == "UnexpectedAdmissionError"
    assert agent.on(node) == []


async def test_what_a_lost_node_takes_with_it_does_not_count_as_a_failure_of_the_job(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, GPU, {"worker": WORKER})
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    main = container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'never'}"], GPU)
    await api.create(job("j", namespace, main, podFailurePolicy={"rules": rules}))
    lost = await job_pod(plane, api, namespace, "j", "Running")
    node, name = lost["spec"]["nodeName"], lost["metadata"]["name"]
    [run] = agent.on(node)
    [pid] = run.processes
    await agent.lose(node)
    assert not Path(f"/proc/{pid}").exists()
    assert (await api.get(PODS, name, namespace))["status"]["phase"] == "Running"
    await remove_node(api, node)
    await pod_gone(plane, api, namespace, name)
    assert not holds(await api.get(JOBS, "j", namespace), "Failed")


async def test_an_eviction_names_its_reason(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {"worker": WORKER})
    main = container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'never'}"])
    await api.create(pod("crowded", namespace, main))
    await pod_in(plane, api, namespace, "crowded", "Running")
    await agent.evict(namespace, "crowded")
    evicted = await pod_in(plane, api, namespace, "crowded", "Failed")
    assert evicted["status"]["reason"] == "Evicted"
    assert reason(evicted, "DisruptionTarget") == "TerminationByKubelet"


async def test_the_agent_outlives_an_outage_of_the_api_server(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    main = container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'go'}"])
    for name in ("ends", "goes"):
        await api.create(pod(name, namespace, main, terminationGracePeriodSeconds=5))
        await pod_in(plane, api, namespace, name, "Running")
    await api.delete(PODS, "goes", namespace)
    await plane.stop("kube-apiserver")
    (tmp_path / "go").touch()
    await plane.start("kube-apiserver")
    await pod_in(plane, api, namespace, "ends", "Succeeded")
    await pod_gone(plane, api, namespace, "goes")


async def test_servers_of_a_deployment_answer_on_their_own_addresses(
    plane: Plane, api: Api, namespace: str, process_nodes
) -> None:
    await process_nodes(1, {}, {"server": ["python", "-m", "http.server"]})
    main = container("server", ["8000", "--bind", "$(POD_IP)"])
    main["env"] = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    labels = {"app": "vllm"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [main], "terminationGracePeriodSeconds": 1, "nodeSelector": {"test": namespace}},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    place = {"name": "vllm", "namespace": namespace}
    await api.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place, "spec": spec})

    async def available() -> bool:
        return (await api.get(DEPLOYMENTS, "vllm", namespace))["status"].get("availableReplicas") == 2

    await plane.until("both are available", available)
    addresses = {p["status"]["podIP"] for p in await api.list(PODS, namespace)}
    assert len(addresses) == 2
    async with aiohttp.ClientSession() as http:

        async def all_answer() -> bool:
            for address in addresses:
                async with http.get(f"http://{address}:8000/") as answer:
                    assert answer.status == 200
            return True

        await plane.until("both answer", all_answer)
    await api.patch(DEPLOYMENTS, "vllm", {"spec": {"replicas": 0}}, namespace)

    async def none_left() -> bool:
        return await api.list(PODS, namespace) == []

    await plane.until("none is left", none_left)


async def test_the_agent_runs_as_a_process_of_its_own(plane: Plane, api: Api, namespace: str, tmp_path: Path) -> None:
    worker = shlex.join(WORKER)
    command = [
        sys.executable,
        "-m",
        "tests.kube.cluster.agent_command",
        "--kubeconfig",
        plane.kubeconfig,
        "--pki",
        plane.pki,
    ]
    command += ["--folder", tmp_path / "agent", "--node", namespace, "--device", "nvidia.com/gpu=1"]
    command += ["--label", f"test={namespace}", "--entrypoint", f"worker={worker}"]
    process = await asyncio.create_subprocess_exec(*map(str, command), cwd=Path(__file__).parents[2])
    try:
        main = container("worker", [f"--out={tmp_path / 'x'}"], GPU)
        await api.create(pod("p", namespace, main))
        await pod_in(plane, api, namespace, "p", "Succeeded")
        assert "gpu-0" in await api.logs(namespace, "p")
    finally:
        process.terminate()
        code = await asyncio.wait_for(process.wait(), 30)
    assert code == 0
    with pytest.raises(ApiError, match="not found"):
        await api.get(NODES, namespace)
