"""MIG slices by DRA: the real scheduler allocates partitions that the agent publishes and hands to its processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.kube.cluster.client import NODES, PODS, RESOURCE_SLICES, WORKLOADS, KubeApi, Object
from tests.kube.cluster.cloud_provider import remove_node
from tests.kube.cluster.mig import A100_40, build_claim_template, publish_gpus
from tests.kube.cluster.objects import build_container, build_job, has_condition
from tests.kube.cluster.plane import ControlPlane, NotReady
from tests.kube.cluster.queues import Queues

HERE = Path(__file__).parent
WORKER = {"worker": ["python", str(HERE / "workers" / "resumable.py")]}


def sliced(name: str, namespace: str, profile: str, folder: Path, queue: str = "") -> Object:
    """A Job that holds one partition until FOLDER/go appears."""
    main = build_container("worker", [f"--out={folder / name}", f"--until={folder / 'go'}"])
    main["resources"] = {"claims": [{"name": "gpu"}]}
    claim = {"name": "gpu", "resourceClaimTemplateName": profile.replace(".", "")}
    pod = {"resourceClaims": [claim], "nodeSelector": {"test": namespace}}
    return build_job(name, namespace, main, queue=queue, pod=pod)


async def phases(api: KubeApi, namespace: str) -> Counter[str]:
    return Counter(pod["status"]["phase"] for pod in await api.list(PODS, namespace))


async def held(api: KubeApi, namespace: str) -> list[str]:
    """Devices that running processes were given, by their own account."""
    logs = [
        await api.logs(namespace, pod["metadata"]["name"])
        for pod in await api.list(PODS, namespace)
        if pod["status"]["phase"] == "Running"
    ]
    return sorted(log.split()[1] for log in logs if log)


async def test_two_3g_fill_a_gpu_and_a_third_waits_for_one_to_end(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, WORKER, gpus=(A100_40,))
    await api.create(build_claim_template("3g20gb", namespace, "3g.20gb"))
    for number in range(3):
        await api.create(sliced(f"j{number}", namespace, "3g.20gb", tmp_path))

    async def two_run() -> bool:
        return await phases(api, namespace) == {"Running": 2, "Pending": 1} and len(await held(api, namespace)) == 2

    await plane.wait_until("two run and one waits", two_run)
    assert await held(api, namespace) == ["gpu-0-mig-3g20gb-9-0", "gpu-0-mig-3g20gb-9-4"]

    async def refused() -> bool:
        waiting = [pod for pod in await api.list(PODS, namespace) if pod["status"]["phase"] == "Pending"]
        messages = [c.get("message", "") for pod in waiting for c in pod["status"].get("conditions", [])]
        return any("cannot allocate all claims" in message for message in messages)

    await plane.wait_until("the scheduler says why", refused)
    (tmp_path / "go").touch()

    async def all_done() -> bool:
        return await phases(api, namespace) == {"Succeeded": 3}

    await plane.wait_until("the third ran too", all_done)


async def test_small_and_large_slices_share_a_gpu(
    plane: ControlPlane, api: KubeApi, namespace: str, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, WORKER, gpus=(A100_40,))
    for profile in ("1g.5gb", "3g.20gb"):
        await api.create(build_claim_template(profile.replace(".", ""), namespace, profile))
    for number, profile in enumerate(("1g.5gb", "3g.20gb", "1g.5gb", "1g.5gb", "1g.5gb")):
        await api.create(sliced(f"j{number}", namespace, profile, tmp_path))

        async def settled(count: int = number + 1) -> bool:
            return len(await held(api, namespace)) == count

        await plane.wait_until(f"job {number} has a slice", settled)
    small = [f"gpu-0-mig-1g5gb-19-{start}" for start in range(4)]
    assert await held(api, namespace) == [*small, "gpu-0-mig-3g20gb-9-4"]
    (tmp_path / "go").touch()


async def test_slices_go_with_their_node(plane: ControlPlane, api: KubeApi, namespace: str, process_nodes) -> None:
    agent = await process_nodes(1, {}, WORKER, gpus=(A100_40, A100_40))
    node = f"{namespace}-p0"

    async def published() -> int:
        return len(await api.list(RESOURCE_SLICES, fieldSelector=f"spec.nodeName={node}"))

    assert await published() == 3
    await agent.lose_node(node)
    await remove_node(api, node)

    async def collected() -> bool:
        return await published() == 0

    await plane.wait_until("the slices are collected", collected)


async def test_kueue_counts_the_memory_of_slices(
    plane: ControlPlane, api: KubeApi, namespace: str, queues: Queues, process_nodes, tmp_path: Path
) -> None:
    await process_nodes(1, {}, WORKER, gpus=(A100_40, A100_40))
    selector = {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}
    source = {"counter": {"name": "memory", "driver": "gpu.nvidia.com", "deviceSelector": selector}}
    mapping = {"name": "gpu.memory", "deviceClassNames": ["mig.nvidia.com"], "sources": [source]}
    await api.create(build_claim_template("3g20gb", namespace, "3g.20gb"))
    async with plane.with_kueue_configuration(resources={"deviceClassMappings": [mapping]}):
        await queues.add_queue("lq", {"gpu.memory": "40320Mi"})
        for number in range(3):
            await api.create(sliced(f"j{number}", namespace, "3g.20gb", tmp_path, "lq"))

        async def two_admitted() -> bool:
            workloads = await api.list(WORKLOADS, namespace)
            return len(workloads) == 3 and sum(has_condition(w, "Admitted") for w in workloads) == 2

        await plane.wait_until("quota holds two of three", two_admitted)
        usages = [
            assigned["resourceUsage"]
            for workload in await api.list(WORKLOADS, namespace)
            if has_condition(workload, "Admitted")
            for assigned in workload["status"]["admission"]["podSetAssignments"]
        ]
        assert usages == [{"gpu.memory": "20096Mi"}] * 2
        (tmp_path / "go").touch()

        async def all_done() -> bool:
            return await phases(api, namespace) == {"Succeeded": 3}

        await plane.wait_until("all have run", all_done)


async def test_first_fit_of_sixteen_small_and_sixteen_large_on_eight_gpus_holds_25(
    plane: ControlPlane, api: KubeApi, namespace: str, kwok_nodes
) -> None:
    """The mixture of arXiv 2602.04900, submitted alternately: the paper saw 25 at once, so does the real scheduler."""
    [name] = await kwok_nodes(1, {})
    node = await api.get(NODES, name)
    await publish_gpus(api, name, node["metadata"]["uid"], (A100_40,) * 8)
    for profile in ("1g.5gb", "3g.20gb"):
        await api.create(build_claim_template(profile.replace(".", ""), namespace, profile))
    main = {**build_container(), "resources": {"claims": [{"name": "gpu"}]}}
    running = {"1g.5gb": 0, "3g.20gb": 0}
    for number in range(16):
        for profile in running:
            claim = {"name": "gpu", "resourceClaimTemplateName": profile.replace(".", "")}
            place = {"name": f"{profile.replace('.', '')}-{number}", "namespace": namespace}
            spec = {"containers": [main], "resourceClaims": [claim], "nodeSelector": {"test": namespace}}
            await api.create({"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": spec})
            running[profile] += await scheduled(plane, api, namespace, place["name"])
    assert running == {"1g.5gb": 13, "3g.20gb": 12}


async def scheduled(plane: ControlPlane, api: KubeApi, namespace: str, name: str) -> bool:
    """The scheduler's verdict on a pod whose claim has been made."""

    async def decided() -> str:
        conditions = (await api.get(PODS, name, namespace))["status"].get("conditions", [])
        for condition in conditions:
            if condition["type"] == "PodScheduled":
                refused = "cannot allocate all claims" in condition.get("message", "")
                if refused or condition["status"] == "True":
                    return str(condition["status"])
        raise NotReady(conditions)

    return await plane.wait_until(f"pod {name} is decided upon", decided) == "True"
