"""Nodes whose pods are processes: preemption, disruption, outages, servers, the agent as a command."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.kube.cluster.client import DEPLOYMENTS, JOBS, NODES, PODS, ApiError, KubeApi
from tests.kube.cluster.cloud_provider import remove_node
from tests.kube.cluster.objects import build_container, build_job, build_pod, condition_reason, has_condition
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.queues import Queues
from tests.kube.cluster.waits import wait_for_job_condition, wait_for_job_pod, wait_for_pod_deletion, wait_for_pod_phase

GPU = {"nvidia.com/gpu": 1}
WORKERS = Path(__file__).parent / "workers"
WORKER = ["python", str(WORKERS / "resumable.py")]


async def test_a_preempted_process_is_told_and_its_pod_comes_back_to_finish(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, GPU, {"worker": WORKER})
    await queues.add_queue("lq", GPU, preemption={"withinClusterQueue": "LowerPriority"})
    high = await queues.add_priority_class("high", 1000)
    results = tmp_path / "results"
    volume = {"name": "out", "hostPath": {"path": str(results), "type": "DirectoryOrCreate"}}
    mounted = {"volumeMounts": [{"name": "out", "mountPath": "/results"}]}
    slow = build_container("registry.example/worker:1", ["--out=/results/slow", "--until=/results/go"], GPU, **mounted)
    fast = build_container("worker:1", ["--out=/results/fast"], GPU, **mounted)
    await api.create(build_job("slow", namespace, slow, queue="lq", pod={"volumes": [volume]}))
    first = await wait_for_job_pod(plane, api, namespace, "slow", "Running")

    async def begun() -> bool:
        return "fresh" in await api.logs(namespace, first["metadata"]["name"])

    await plane.wait_until("the log comes through the API server", begun)
    await api.create(build_job("fast", namespace, fast, queue="lq", priority=high, pod={"volumes": [volume]}))
    await wait_for_job_pod(plane, api, namespace, "fast", "Succeeded")
    assert (results / "slow.sigterm").read_text() == "SIGTERM"
    (results / "go").touch()
    second = await wait_for_job_pod(plane, api, namespace, "slow", "Succeeded")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert "resumed" in await api.logs(namespace, second["metadata"]["name"])
    ended = second["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (0, '{"done": true}')
    await wait_for_job_condition(plane, api, namespace, "slow")


async def test_more_devices_than_there_are_fail_the_pod_that_was_bound_past_the_scheduler(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, GPU, {"worker": WORKER})
    main = build_container("worker", [f"--out={tmp_path / 'x'}"], {"nvidia.com/gpu": 2})
    node = f"{namespace}-p0"
    await api.create(build_pod("greedy", namespace, main, nodeName=node))
    refused = await wait_for_pod_phase(plane, api, namespace, "greedy", "Failed")
    assert refused["status"]["reason"] == "UnexpectedAdmissionError"
    assert agent.list_running_pods(node) == []


async def test_what_a_lost_node_takes_with_it_does_not_count_as_a_failure_of_the_job(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, GPU, {"worker": WORKER})
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    main = build_container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'never'}"], GPU)
    await api.create(build_job("j", namespace, main, podFailurePolicy={"rules": rules}))
    lost = await wait_for_job_pod(plane, api, namespace, "j", "Running")
    node, name = lost["spec"]["nodeName"], lost["metadata"]["name"]
    [run] = agent.list_running_pods(node)
    [pid] = run.process_ids
    await agent.lose_node(node)
    assert not Path(f"/proc/{pid}").exists()
    assert (await api.get(PODS, name, namespace))["status"]["phase"] == "Running"
    await remove_node(api, node)
    await wait_for_pod_deletion(plane, api, namespace, name)
    assert not has_condition(await api.get(JOBS, "j", namespace), "Failed")


async def test_an_eviction_names_its_reason(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {"worker": WORKER})
    main = build_container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'never'}"])
    await api.create(build_pod("crowded", namespace, main))
    await wait_for_pod_phase(plane, api, namespace, "crowded", "Running")
    await agent.evict_pod(namespace, "crowded")
    evicted = await wait_for_pod_phase(plane, api, namespace, "crowded", "Failed")
    assert evicted["status"]["reason"] == "Evicted"
    assert condition_reason(evicted, "DisruptionTarget") == "TerminationByKubelet"


async def test_the_agent_outlives_an_outage_of_the_api_server(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    main = build_container("worker", [f"--out={tmp_path / 'x'}", f"--until={tmp_path / 'go'}"])
    for name in ("ends", "goes"):
        await api.create(build_pod(name, namespace, main, terminationGracePeriodSeconds=5))
        await wait_for_pod_phase(plane, api, namespace, name, "Running")
    await api.delete(PODS, "goes", namespace)
    await plane.stop_program("kube-apiserver")
    (tmp_path / "go").touch()
    await plane.start_program("kube-apiserver")
    await wait_for_pod_phase(plane, api, namespace, "ends", "Succeeded")
    await wait_for_pod_deletion(plane, api, namespace, "goes")


async def test_servers_of_a_deployment_answer_on_their_own_addresses(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes
) -> None:
    await process_nodes(1, {}, {"server": ["python", "-m", "http.server"]})
    main = build_container("server", ["8000", "--bind", "$(POD_IP)"])
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

    await plane.wait_until("both are available", available)
    addresses = {p["status"]["podIP"] for p in await api.list(PODS, namespace)}
    assert len(addresses) == 2
    async with aiohttp.ClientSession() as http:

        async def all_answer() -> bool:
            for address in addresses:
                async with http.get(f"http://{address}:8000/") as answer:
                    assert answer.status == 200
            return True

        await plane.wait_until("both answer", all_answer)
    await api.patch(DEPLOYMENTS, "vllm", {"spec": {"replicas": 0}}, namespace)

    async def none_left() -> bool:
        return await api.list(PODS, namespace) == []

    await plane.wait_until("none is left", none_left)


async def test_the_agent_runs_as_a_process_of_its_own(
    plane: ControlPlane, api: KubeApi, namespace: str, tmp_path: Path
) -> None:
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
        main = build_container("worker", [f"--out={tmp_path / 'x'}"], GPU)
        await api.create(build_pod("p", namespace, main))
        await wait_for_pod_phase(plane, api, namespace, "p", "Succeeded")
        assert "gpu-0" in await api.logs(namespace, "p")
    finally:
        process.terminate()
        code = await asyncio.wait_for(process.wait(), 30)
    assert code == 0
    with pytest.raises(ApiError, match="not found"):
        await api.get(NODES, namespace)
