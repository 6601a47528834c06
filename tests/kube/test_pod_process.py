"""Inside a pod: what its processes see, how they end, and the status and logs that the agent reports."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.kube.cluster.client import PODS, VOLUME_CLAIMS, KubeApi, Object
from tests.kube.cluster.objects import build_container, build_pod
from tests.kube.cluster.plane import ControlPlane
from tests.kube.cluster.waits import wait_for_container_reason, wait_for_pod_deletion, wait_for_pod_phase

GPU = {"nvidia.com/gpu": 1}
WORKERS = Path(__file__).parent / "workers"
WORKER = ["python", str(WORKERS / "resumable.py")]


async def test_what_a_process_sees(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {"nvidia.com/gpu": 2}, {"print-process": ["python", str(WORKERS / "print_process.py")]})
    await api.apply(*sources(namespace, tmp_path / "models"))

    async def bound() -> bool:
        return (await api.get(VOLUME_CLAIMS, "models", namespace)).get("status", {}).get("phase") == "Bound"

    await plane.wait_until("the claim is bound", bound)
    await api.create(build_pod("sight", namespace, sighted(), volumes=volumes()))
    await wait_for_pod_phase(plane, api, namespace, "sight", "Succeeded")
    seen = json.loads(await api.logs(namespace, "sight"))
    info = Path(seen["arguments"].pop())
    assert (info.read_text(), info.with_name("TOKEN").read_text()) == ("sight", "hush")
    conf = Path(seen["arguments"].pop())
    assert seen["arguments"] == [f"--model={tmp_path}/models/tiny", "1-$(NONE)-$(A)"]
    assert conf.read_text() == "text"
    environment = seen["environment"]
    assert (environment["POD"], environment["APP"], environment["CORES"]) == ("sight", "x", "2")
    assert (environment["TOKEN"], environment["NVIDIA_VISIBLE_DEVICES"]) == ("hush", "gpu-0,gpu-1")
    assert environment["IP"].startswith("127.100.")
    assert environment["CACHE"] == seen["folder"]
    assert (tmp_path / "models").is_dir()


async def test_how_processes_end(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {"worker": WORKER, "allocate": ["python", str(WORKERS / "allocate_memory.py")]})
    out = [f"--out={tmp_path / 'x'}"]
    for_ever = build_container("worker", [*out, f"--until={tmp_path / 'never'}"])
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods = {
        "bad-input": build_pod("bad-input", namespace, build_container("worker", [*out, "--exit-code=65"])),
        "no-program": build_pod("no-program", namespace, build_container("x") | {"command": ["/no/such/program"]}),
        "exceeds-memory": build_pod("exceeds-memory", namespace, memory(build_container("allocate"), "64Mi")),
        "killed": build_pod("killed", namespace, for_ever),
        "late": build_pod("late", namespace, for_ever, activeDeadlineSeconds=1),
        "no-message": build_pod("no-message", namespace, build_container("allocate", ["--fail"]) | fallback),
    }
    for document in pods.values():
        await api.create(document)
    await wait_for_pod_phase(plane, api, namespace, "killed", "Running")
    agent.kill_container(namespace, "killed")
    found = {}
    for name in pods:
        ended = await wait_for_pod_phase(plane, api, namespace, name, "Failed")
        state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
        found[name] = (state["exitCode"], state["reason"], ended["status"].get("reason", ""), state.get("message", ""))
    assert found["bad-input"] == (65, "Error", "", '{"done": true}')
    assert found["no-program"][:2] == (128, "StartError")
    assert found["exceeds-memory"][:2] == (137, "OOMKilled")
    assert found["killed"][:2] == (137, "OOMKilled")
    assert found["late"][:3] == (137, "Error", "DeadlineExceeded")
    assert found["no-message"] == (1, "Error", "", "failed as requested\n")


async def test_pods_that_cannot_start_say_why_and_start_once_they_can(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    main = build_container("worker", [f"--out={tmp_path / 'x'}"]) | {"envFrom": [{"secretRef": {"name": "late"}}]}
    await api.create(build_pod("waits", namespace, main))
    await api.create(build_pod("unknown", namespace, build_container("unknown:2")))
    assert await wait_for_container_reason(plane, api, namespace, "unknown", "ErrImagePull")
    assert "late" in await wait_for_container_reason(plane, api, namespace, "waits", "CreateContainerConfigError")
    await api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": namespace}})
    await wait_for_pod_phase(plane, api, namespace, "waits", "Succeeded")
    await api.delete(PODS, "unknown", namespace)
    await wait_for_pod_deletion(plane, api, namespace, "unknown")


async def test_a_failing_container_is_restarted_and_keeps_the_log_before(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER}, backoff=0.05)
    main = build_container("worker", [f"--out={tmp_path / 'x'}", "--exit-code=1"])
    await api.create(build_pod("restless", namespace, main, restartPolicy="OnFailure", terminationGracePeriodSeconds=1))

    async def restarted() -> bool:
        status = (await api.get(PODS, "restless", namespace))["status"]
        return bool(status.get("containerStatuses")) and status["containerStatuses"][0]["restartCount"] >= 1

    await plane.wait_until("it has been restarted", restarted)
    assert (await api.get(PODS, "restless", namespace))["status"]["phase"] == "Running"

    async def logged() -> bool:
        return "resumed" in await api.logs(namespace, "restless")

    await plane.wait_until("the newest log", logged)
    assert await api.logs(namespace, "restless", previous="true")
    await api.delete(PODS, "restless", namespace)
    await wait_for_pod_deletion(plane, api, namespace, "restless")


async def test_init_containers_run_first_or_beside_and_one_that_fails_fails_the_pod(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {"worker": WORKER})
    first = build_container("worker", [f"--out={tmp_path / 'first'}"]) | {"name": "first"}
    main = build_container("worker", [f"--out={tmp_path / 'main'}"])
    await api.create(build_pod("good", namespace, main, initContainers=[first]))
    await wait_for_pod_phase(plane, api, namespace, "good", "Succeeded")
    assert (tmp_path / "first.part").stat().st_mtime_ns <= (tmp_path / "main.part").stat().st_mtime_ns
    (tmp_path / "main.part").unlink()
    beside = build_container("x", ["-c", "sleep 300"]) | {
        "name": "beside",
        "command": ["sh"],
        "restartPolicy": "Always",
    }
    await api.create(build_pod("accompanied", namespace, main, initContainers=[beside]))
    await wait_for_pod_phase(plane, api, namespace, "accompanied", "Succeeded")
    accompanied = agent.find_pod(namespace, "accompanied")
    assert accompanied is not None
    assert accompanied.process_ids == []
    (tmp_path / "main.part").unlink()
    failing = {**first, "args": [*first["args"], "--exit-code=3"]}
    await api.create(build_pod("bad", namespace, main, initContainers=[failing]))
    await wait_for_pod_phase(plane, api, namespace, "bad", "Failed")
    assert not (tmp_path / "main.part").exists()


async def test_logs_can_be_followed_and_cut(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {"worker": WORKER})
    script = f"echo one; echo two; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.02; done; echo three"
    await api.create(build_pod("talks", namespace, build_container("x", ["-c", script]) | {"command": ["sh"]}))
    await wait_for_pod_phase(plane, api, namespace, "talks", "Running")
    followed = asyncio.create_task(api.logs(namespace, "talks", follow="true"))

    async def two_lines() -> bool:
        return await api.logs(namespace, "talks") == "one\ntwo\n"

    await plane.wait_until("two lines", two_lines)
    assert await api.logs(namespace, "talks", tailLines="1") == "two\n"
    assert await api.logs(namespace, "talks", limitBytes="3") == "one"
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(followed, 30) == "one\ntwo\nthree\n"


async def test_what_a_process_leaves_behind_ends_with_it(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, {})
    script = f"sleep 300 & echo $! > {tmp_path / 'child'}; mkfifo {tmp_path / 'go'}; read x < {tmp_path / 'go'}"
    await api.create(build_pod("parent", namespace, build_container("x", ["-c", script]) | {"command": ["sh"]}))

    async def begun() -> bool:
        return (tmp_path / "go").exists()

    await plane.wait_until("the child runs", begun)
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    assert child.exists()
    await asyncio.to_thread((tmp_path / "go").write_text, "go\n")
    await wait_for_pod_phase(plane, api, namespace, "parent", "Succeeded")

    async def ended() -> bool:
        return not child.exists() or "(zombie)" in (child / "status").read_text()

    await plane.wait_until("the child has ended", ended)


async def test_a_deleted_process_that_ignores_sigterm_is_killed_after_its_grace(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    agent = await process_nodes(1, {}, {})
    script = "trap '' TERM; while :; do sleep 0.05; done"
    main = build_container("x", ["-c", script]) | {"command": ["sh"]}
    await api.create(build_pod("deaf", namespace, main, terminationGracePeriodSeconds=1))
    await wait_for_pod_phase(plane, api, namespace, "deaf", "Running")
    [run] = agent.list_running_pods(f"{namespace}-p0")
    [pid] = run.process_ids
    await api.delete(PODS, "deaf", namespace)
    await wait_for_pod_deletion(plane, api, namespace, "deaf")
    assert not Path(f"/proc/{pid}").exists()


def memory(main: Object, limit: str) -> Object:
    return {**main, "resources": {"limits": {"memory": limit}}}


def sources(namespace: str, models: Path) -> list[Object]:
    """A config map, a secret, and a claim bound to the folder `models`."""
    place = {"namespace": namespace}
    volume = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    stored = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(models)}}
    claimed = {"volumeName": f"{namespace}-models", "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **place}, "data": {"A": "1", "f": "text"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", **place}, "stringData": {"TOKEN": "hush"}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-models"},
            "spec": {**volume, **stored, "claimRef": {"name": "models", **place}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", **place},
            "spec": {**volume, **claimed},
        },
    ]


def sighted() -> Object:
    """A container that is given something of every kind."""
    args = ["--model=/models/tiny", "$(A)-$(NONE)-$$(A)", "/etc/conf/f.txt", "/info/pod"]
    main = build_container("print-process", args, {"nvidia.com/gpu": 2})
    main["resources"]["limits"]["cpu"] = "1500m"
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "TOKEN"}}},
        {"name": "CACHE", "value": "/cache"},
    ]
    paths = {"models": "/models", "conf": "/etc/conf", "cache": "/cache", "info": "/info"}
    mounts = [{"name": name, "mountPath": path} for name, path in paths.items()]
    return main | {
        "env": env,
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "volumeMounts": mounts,
        "workingDir": "/cache",
    }


def volumes() -> list[Object]:
    """A volume of every kind; the claim is `sources`' own."""
    name = {"downwardAPI": {"items": [{"path": "pod", "fieldRef": {"fieldPath": "metadata.name"}}]}}
    return [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "conf", "configMap": {"name": "c", "items": [{"key": "f", "path": "f.txt"}]}},
        {"name": "cache", "emptyDir": {}},
        {"name": "info", "projected": {"sources": [name, {"secret": {"name": "s"}}]}},
    ]
