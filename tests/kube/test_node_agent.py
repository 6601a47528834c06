"""Pods as processes: what they see, how they end, what the API server tells of them."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kube.client import DEPLOYMENTS, JOBS, NODES, PODS, VOLUME_CLAIMS, Api, ApiError, Object
from tests.kube.cluster import remove_node
from tests.kube.objects import container, holds, job, reason
from tests.kube.plane import Plane
from tests.kube.queues import Queues
from tests.kube.waits import job_in, job_pod, pod_gone, pod_in, pod_waits

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


async def test_what_a_process_sees(plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 2}, {"show": ["python", str(WORKERS / "show.py")]})
    place = {"namespace": namespace}
    await api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c", **place},
            "data": {"A": "1", "f": "text"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", **place}, "stringData": {"TOKEN": "hush"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-models"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "hostPath": {"path": str(tmp_path / "models")},
                "claimRef": {"name": "models", **place},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", **place},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": f"{namespace}-models",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    )

    async def bound() -> bool:
        return (await api.get(VOLUME_CLAIMS, "models", namespace)).get("status", {}).get("phase") == "Bound"

    await plane.until("the claim is bound", bound)
    main = container("show", ["--model=/models/tiny", "$(A)-$(NONE)-$$(A)", "/etc/conf/f.txt"], {"nvidia.com/gpu": 2})
    main |= {
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "TOKEN"}}},
            {"name": "CACHE", "value": "/cache"},
        ],
        "volumeMounts": [
            {"name": "models", "mountPath": "/models"},
            {"name": "conf", "mountPath": "/etc/conf"},
            {"name": "cache", "mountPath": "/cache"},
        ],
        "workingDir": "/cache",
    }
    main["resources"]["limits"]["cpu"] = "1500m"
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "conf", "configMap": {"name": "c", "items": [{"key": "f", "path": "f.txt"}]}},
        {"name": "cache", "emptyDir": {}},
    ]
    await api.create(pod("sight", namespace, main, volumes=volumes))
    await pod_in(plane, api, namespace, "sight", "Succeeded")
    seen = json.loads(await api.logs(namespace, "sight"))
    conf = Path(seen["arguments"].pop())
    assert seen["arguments"] == [f"--model={tmp_path}/models/tiny", "1-$(NONE)-$(A)"]
    assert conf.read_text() == "text"
    environment = seen["environment"]
    assert (environment["POD"], environment["APP"], environment["CORES"]) == ("sight", "x", "2")
    assert (environment["TOKEN"], environment["NVIDIA_VISIBLE_DEVICES"]) == ("hush", "gpu-0,gpu-1")
    assert environment["IP"].startswith("127.100.")
    assert environment["CACHE"] == seen["folder"]
    assert (tmp_path / "models").is_dir()


async def test_how_processes_end(plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path) -> None:
    agent = await process_nodes(1, {}, {"worker": WORKER, "eat": ["python", str(WORKERS / "eat.py")]})
    out = [f"--out={tmp_path / 'x'}"]
    for_ever = container("worker", [*out, f"--until={tmp_path / 'never'}"])
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods = {
        "bad-input": pod("bad-input", namespace, container("worker", [*out, "--exit-code=65"])),
        "no-program": pod("no-program", namespace, container("x") | {"command": ["/no/such/program"]}),
        "hungry": pod("hungry", namespace, memory(container("eat"), "64Mi")),
        "killed": pod("killed", namespace, for_ever),
        "late": pod("late", namespace, for_ever, activeDeadlineSeconds=1),
        "no-message": pod("no-message", namespace, container("eat", ["--fail"]) | fallback),
    }
    for document in pods.values():
        await api.create(document)
    await pod_in(plane, api, namespace, "killed", "Running")
    agent.kill(namespace, "killed")
    found = {}
    for name in pods:
        ended = await pod_in(plane, api, namespace, name, "Failed")
        state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
        found[name] = (state["exitCode"], state["reason"], ended["status"].get("reason", ""), state.get("message", ""))
    assert found["bad-input"] == (65, "Error", "", '{"done": true}')
    assert found["no-program"][:2] == (128, "StartError")
    assert found["hungry"][:2] == (137, "OOMKilled")
    assert found["killed"][:2] == (137, "OOMKilled")
    assert found["late"][:3] == (137, "Error", "DeadlineExceeded")
    assert found["no-message"] == (1, "Error", "", "no food\n")


async def test_pods_that_cannot_start_say_why_and_start_once_they_can(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    main = container("worker", [f"--out={tmp_path / 'x'}"]) | {"envFrom": [{"secretRef": {"name": "late"}}]}
    await api.create(pod("waits", namespace, main))
    await api.create(pod("unknown", namespace, container("unknown:2")))
    assert await pod_waits(plane, api, namespace, "unknown", "ErrImagePull")
    assert "late" in await pod_waits(plane, api, namespace, "waits", "CreateContainerConfigError")
    await api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": namespace}})
    await pod_in(plane, api, namespace, "waits", "Succeeded")
    await api.delete(PODS, "unknown", namespace)
    await pod_gone(plane, api, namespace, "unknown")


async def test_a_failing_container_is_restarted_and_keeps_the_log_before(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER}, backoff=0.05)
    main = container("worker", [f"--out={tmp_path / 'x'}", "--exit-code=1"])
    await api.create(pod("restless", namespace, main, restartPolicy="OnFailure", terminationGracePeriodSeconds=1))

    async def restarted() -> bool:
        status = (await api.get(PODS, "restless", namespace))["status"]
        return bool(status.get("containerStatuses")) and status["containerStatuses"][0]["restartCount"] >= 1

    await plane.until("it has been restarted", restarted)
    assert (await api.get(PODS, "restless", namespace))["status"]["phase"] == "Running"

    async def logged() -> bool:
        return "resumed" in await api.logs(namespace, "restless")

    await plane.until("the newest log", logged)
    assert await api.logs(namespace, "restless", previous="true")
    await api.delete(PODS, "restless", namespace)
    await pod_gone(plane, api, namespace, "restless")


async def test_init_containers_run_first_and_one_that_fails_fails_the_pod(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    first = container("worker", [f"--out={tmp_path / 'first'}"]) | {"name": "first"}
    main = container("worker", [f"--out={tmp_path / 'main'}"])
    await api.create(pod("good", namespace, main, initContainers=[first]))
    await pod_in(plane, api, namespace, "good", "Succeeded")
    assert (tmp_path / "first.part").stat().st_mtime_ns <= (tmp_path / "main.part").stat().st_mtime_ns
    (tmp_path / "main.part").unlink()
    failing = {**first, "args": [*first["args"], "--exit-code=3"]}
    await api.create(pod("bad", namespace, main, initContainers=[failing]))
    await pod_in(plane, api, namespace, "bad", "Failed")
    assert not (tmp_path / "main.part").exists()


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


async def test_logs_can_be_followed_and_cut(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    script = f"echo one; echo two; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.02; done; echo three"
    await api.create(pod("talks", namespace, container("x", ["-c", script]) | {"command": ["sh"]}))
    await pod_in(plane, api, namespace, "talks", "Running")
    followed = asyncio.create_task(api.logs(namespace, "talks", follow="true"))

    async def two_lines() -> bool:
        return await api.logs(namespace, "talks") == "one\ntwo\n"

    await plane.until("two lines", two_lines)
    assert await api.logs(namespace, "talks", tailLines="1") == "two\n"
    assert await api.logs(namespace, "talks", limitBytes="3") == "one"
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(followed, 30) == "one\ntwo\nthree\n"


async def test_what_a_process_leaves_behind_ends_with_it(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {})
    script = f"sleep 300 & echo $! > {tmp_path / 'child'}; mkfifo {tmp_path / 'go'}; read x < {tmp_path / 'go'}"
    await api.create(pod("parent", namespace, container("x", ["-c", script]) | {"command": ["sh"]}))

    async def begun() -> bool:
        return (tmp_path / "go").exists()

    await plane.until("the child runs", begun)
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    assert child.exists()
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    await pod_in(plane, api, namespace, "parent", "Succeeded")

    async def ended() -> bool:
        return not child.exists() or "(zombie)" in (child / "status").read_text()

    await plane.until("the child has ended", ended)


async def test_a_deleted_process_that_ignores_sigterm_is_killed_after_its_grace(
    plane: Plane, api: Api, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {})
    script = "trap '' TERM; while :; do sleep 0.05; done"
    main = container("x", ["-c", script]) | {"command": ["sh"]}
    await api.create(pod("deaf", namespace, main, terminationGracePeriodSeconds=1))
    await pod_in(plane, api, namespace, "deaf", "Running")
    [run] = agent.on(f"{namespace}-p0")
    [pid] = run.processes
    await api.delete(PODS, "deaf", namespace)
    await pod_gone(plane, api, namespace, "deaf")
    assert not Path(f"/proc/{pid}").exists()


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
    command = [sys.executable, "-m", "tests.kube.agent_command", "--kubeconfig", plane.kubeconfig, "--pki", plane.pki]
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


def pod(name: str, namespace: str, main: Object, **spec: Any) -> Object:
    """A pod for the test's own nodes that is not restarted."""
    place = {"name": name, "namespace": namespace, "labels": {"app": "x"}}
    spec = {"restartPolicy": "Never", "nodeSelector": {"test": namespace}, "containers": [main], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": spec}


def memory(main: Object, limit: str) -> Object:
    return {**main, "resources": {"limits": {"memory": limit}}}
