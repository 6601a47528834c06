"""Nodes whose pods are local processes: a kubelet without containers, for tests.

    nodes = [AgentNode("n-0", devices={"nvidia.com/gpu": 1})]
    async with NodeAgent(plane.kubeconfig, plane.pki, folder, nodes,
                         entrypoints={"worker": ["python", "-m", "worker"]}, clock=SystemClock()) as agent:

or, as a process of its own: `python -m tests.kube.cluster.agent_command --help`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from epp.clock import Clock
from epp.tasks import Tasks
from tests.kube.cluster.client import MERGE, NODES, PODS, ApiError, KubeApi, Object
from tests.kube.cluster.cloud_provider import remove_node
from tests.kube.cluster.container_process import format_timestamp
from tests.kube.cluster.devices import DevicePool, DeviceUnavailable, list_claimed_devices
from tests.kube.cluster.log_server import LogServer
from tests.kube.cluster.mig import GpuModel, publish_gpus
from tests.kube.cluster.pod_run import AgentContext, PodFailure, PodRun

_RETRY = 0.2  # seconds until a broken watch is opened again
_FINAL_PHASES = frozenset({"Succeeded", "Failed"})


class AgentNode(msgspec.Struct, frozen=True):
    """A node to register."""

    name: str
    devices: Mapping[str, int] = {}  # extended resource -> how many
    labels: Mapping[str, str] = {}
    gpus: tuple[GpuModel, ...] = ()  # published as ResourceSlices; claims are prepared
    cpu: str = "32"
    memory: str = "256Gi"


class NodeAgent:
    """The kubelet of some nodes; an asynchronous context manager, bound to its event loop."""

    def __init__(
        self,
        kubeconfig: Path,
        pki: Path,
        folder: Path,
        nodes: Sequence[AgentNode],
        *,
        clock: Clock,
        entrypoints: Mapping[str, Sequence[str]] = {},
        environment: Mapping[str, str] = {},
        network: str = "127.100",
        backoff: float = 0.5,
    ) -> None:
        """`folder` takes pods' files and logs; `entrypoints` maps images to argv; `environment` goes to every process.

        `network` is the first half of the pods' addresses: agents that run at the same time need one each.
        `backoff` seconds pass before a container's first restart (10 in a real kubelet), then twice as many.
        """
        self._api = KubeApi(kubeconfig)
        self._context = AgentContext(self._api, clock, folder.resolve(), entrypoints, environment, backoff)
        self._nodes = {node.name: node for node in nodes}
        self._pools = {node.name: DevicePool(node.devices) for node in nodes}
        self._network = network
        self._addresses = itertools.count(1)
        self._pods: dict[str, PodRun] = {}
        self._terminating: set[str] = set()
        self._lost_nodes: set[str] = set()
        self._tasks = Tasks("node-agent")
        self._logs = LogServer(self.find_pod, pki)

    # -- for tests ---------------------------------------------------------------------------------------------------

    def find_pod(self, namespace: str, name: str) -> PodRun | None:
        """The pod of that name, running or ended; None if it never ran here."""
        found = [run for run in self._pods.values() if (run.namespace, run.name) == (namespace, name)]
        return found[-1] if found else None

    def list_running_pods(self, node: str) -> list[PodRun]:
        """The pods of one node that have not ended."""
        return [run for run in self._pods.values() if run.node == node and not run.has_ended]

    async def lose_node(self, node: str) -> None:
        """Powers a node off: processes die, no status is reported. `cloud_provider.remove_node` is the next step."""
        self._lost_nodes.add(node)
        await asyncio.gather(*(run.lose_power() for run in self.list_running_pods(node)))

    def kill_container(self, namespace: str, name: str, *, container: str = "", reason: str = "OOMKilled") -> None:
        """SIGKILL to one container (the first if not named), as from the kernel out of memory; KeyError if none."""
        run = self.find_pod(namespace, name)
        victim = None if run is None else run.find_container(container)
        if victim is None:
            raise KeyError(f"no pod {namespace}/{name} with a container {container!r} here")
        victim.kill(reason)

    async def evict_pod(
        self, namespace: str, name: str, message: str = "The node was low on resource: memory."
    ) -> None:
        """Evicts a pod as a kubelet does under node pressure: killed, Failed, DisruptionTarget. KeyError if unknown."""
        run = self.find_pod(namespace, name)
        if run is None:
            raise KeyError(f"no pod {namespace}/{name} here")
        await run.fail(PodFailure("Evicted", message, "TerminationByKubelet"))

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        try:
            port = await self._logs.start()
            for node in self._nodes.values():
                await self._register_node(node, port)
            self._tasks.spawn("follow", self._watch_with_retries())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            for name in self._nodes:
                await self.lose_node(name)
            with contextlib.suppress(ApiError, aiohttp.ClientError, OSError):
                for name in self._nodes:
                    await remove_node(self._api, name)
        finally:
            await self._close()

    async def _close(self) -> None:
        await self._tasks.close()
        await self._logs.close()
        await self._api.__aexit__(None, None, None)

    async def _register_node(self, node: AgentNode, port: int) -> None:
        labels = {"type": "process", "kubernetes.io/hostname": node.name, **node.labels}
        devices = {name: str(count) for name, count in node.devices.items()}
        capacity = {"cpu": node.cpu, "memory": node.memory, "pods": "110", **devices}
        now = format_timestamp(self._context.clock)
        ready = {"type": "Ready", "status": "True", "reason": "NodeAgent", "message": "pods are processes"}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}],
        }
        document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}}
        made = await self._api.create(document)
        await self._api.request("PATCH", NODES.path(name=node.name) + "/status", {"status": status}, content_type=MERGE)
        if node.gpus:
            await publish_gpus(self._api, node.name, made["metadata"]["uid"], node.gpus)

    # -- pods --------------------------------------------------------------------------------------------------------

    async def _watch_with_retries(self) -> None:
        """Watches the pods bound to nodes; lists again after every outage."""
        while True:
            with contextlib.suppress(ApiError, aiohttp.ClientError, OSError, TimeoutError):
                await self._watch()
            await asyncio.sleep(_RETRY)

    async def _watch(self) -> None:
        listed: set[str] | None = set()
        async with contextlib.aclosing(self._api.watch(PODS, fieldSelector="spec.nodeName!=")) as events:
            async for kind, pod in events:
                if kind == "SYNCED":
                    self._drop_deleted_pods(set(self._pods) - (listed or set()))
                    listed = None
                    continue
                if listed is not None:
                    listed.add(pod["metadata"]["uid"])
                if pod["spec"]["nodeName"] in self._nodes.keys() - self._lost_nodes:
                    self._handle_event(kind, pod)

    def _handle_event(self, kind: str, pod: Object) -> None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        known = uid in self._pods
        if kind == "DELETED":
            self._drop_deleted_pods({uid})
        elif pod["metadata"].get("deletionTimestamp"):
            if uid not in self._terminating:
                self._terminating.add(uid)
                run = self._pods[uid] if known else self._adopt_pod(pod)
                grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
                self._tasks.spawn(f"stop {name}", run.stop(grace))
        elif not known and pod["status"].get("phase") not in _FINAL_PHASES:
            run = self._adopt_pod(pod)
            if pod["status"].get("phase") == "Running":
                self._tasks.spawn(f"refuse {name}", run.reject("NodeReboot", "its processes ended with the agent"))
            else:
                self._tasks.spawn(f"live {name}", self._run_pod(run, pod))

    def _adopt_pod(self, pod: Object) -> PodRun:
        number = next(self._addresses)
        run = PodRun(self._context, pod, f"{self._network}.{number >> 8 & 255}.{number & 255}")
        self._pods[run.uid] = run
        return run

    async def _run_pod(self, run: PodRun, pod: Object) -> None:
        pool = self._pools[run.node]
        try:
            devices = await self._assign_devices(pod)
        except DeviceUnavailable as error:
            await run.reject("UnexpectedAdmissionError", str(error))
            return
        if not run.has_ended:  # it may have been deleted meanwhile
            await asyncio.wait([run.start(devices)])
        # before the API hears of the end: the scheduler may send the next pod at once
        pool.release(pod)
        if run.uid not in self._terminating:
            await run.report_end()

    async def _assign_devices(self, pod: Object) -> dict[str, list[str]]:
        """Device names by container, of the node's pool and of resource claims."""
        while True:
            try:
                claims = await list_claimed_devices(self._api, pod)
                break
            except (aiohttp.ClientError, OSError):  # an outage
                await asyncio.sleep(_RETRY)
        plain = self._pools[pod["spec"]["nodeName"]].allocate(pod)
        return {name: plain.get(name, []) + claims.get(name, []) for name in plain.keys() | claims.keys()}

    def _drop_deleted_pods(self, gone: set[str]) -> None:
        """Stops pods whose objects were deleted, without reporting a status."""
        for uid in gone & set(self._pods):
            run = self._pods.pop(uid)
            self._terminating.discard(uid)
            self._tasks.spawn(f"drop {run.name}", run.lose_power())
