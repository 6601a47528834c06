"""Runs one pod on one node, from the first start of a container to the last status update."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from epp.clock import Clock
from epp.tasks import Tasks
from tests.kube.cluster.client import PODS, STRATEGIC, ApiError, KubeApi, Object
from tests.kube.cluster.container_process import ContainerProcess, format_timestamp
from tests.kube.cluster.launch import Launcher, ProcessLaunch
from tests.kube.cluster.volumes import Volumes

_RETRY = 0.2  # seconds between two attempts to report a status
_LAST_WORD = 5.0  # seconds for the final status after the processes have ended


class PodEnvironment(NamedTuple):
    """What all pods of one agent share."""

    api: KubeApi
    clock: Clock
    root: Path
    entrypoints: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    backoff: float  # seconds before the first restart of a container


class PodFailure(NamedTuple):
    """Reason and message of a pod that failed for another reason than the exit code of a container."""

    reason: str
    message: str
    disruption: str = ""  # reason of the condition DisruptionTarget


class PodRun:
    """A pod bound to a node of this agent."""

    def __init__(self, around: PodEnvironment, pod: Object, address: str) -> None:
        """`address` becomes the podIP: one of 127.0.0.0/8, so that pods may share a port."""
        meta = pod["metadata"]
        self.namespace, self.name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self.node: str = pod["spec"]["nodeName"]
        self.address = address
        self.folder = around.root / "pods" / self.uid
        self._around = around
        self._spec = pod["spec"]
        self._policy = self._spec.get("restartPolicy", "Always")
        status = {**pod.get("status", {}), "podIP": address, "hostIP": "127.0.0.1"}
        self._pod = {**pod, "status": status}
        self._begun = format_timestamp(around.clock)
        self._transitions: dict[str, tuple[str, str]] = {}
        self._failure: PodFailure | None = None
        self._lost = False
        self._over = False
        self._telling = asyncio.Lock()
        self._tasks = Tasks(f"pod/{self.name}")
        self._running: asyncio.Task[None] | None = None
        self._devices: Mapping[str, Sequence[str]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._init = [self._create_container(spec) for spec in self._spec.get("initContainers", [])]
        self._main = [self._create_container(spec) for spec in self._spec["containers"]]

    # -- what others ask -----------------------------------------------------------------------------------------

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the running containers."""
        return [c.process.pid for c in self.containers if c.process is not None and c.is_running]

    @property
    def containers(self) -> list[ContainerProcess]:
        """Init containers, then the others."""
        return [*self._init, *self._main]

    @property
    def has_ended(self) -> bool:
        """Whether the pod has ended, in whatever phase."""
        return self._over

    def find_container(self, name: str) -> ContainerProcess | None:
        """The container of that name; the first one for an empty name."""
        return next((c for c in self._main + self._init if name in ("", c.name)), None)

    # -- what the agent does to it -------------------------------------------------------------------------------

    def start(self, devices: Mapping[str, Sequence[str]]) -> asyncio.Task[None]:
        """Runs the pod; `devices` are the names that each container gets. The task ends with the pod's processes."""
        self._devices = devices
        self._running = self._tasks.spawn("run", self._run())
        return self._running

    async def reject(self, reason: str, message: str) -> None:
        """Fails the pod without running it, as a kubelet does that does not admit a pod."""
        self._failure = PodFailure(reason, message)
        self._over = True
        await self._report_status()

    async def fail(self, failure: PodFailure) -> None:
        """Kills the containers and fails the pod, as an eviction under node pressure does."""
        self._failure = failure
        await self._terminate_containers(grace=0.0)
        await self._report_status()

    async def stop(self, grace: float) -> None:
        """Handles a deletion: SIGTERM, `grace` seconds, SIGKILL, the last status, then deletes the object."""
        await self._terminate_containers(grace)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._report_status(), _LAST_WORD)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._retry_until_accepted("DELETE", "", options)

    async def lose_power(self) -> None:
        """Kills the processes without reporting a status, as when the node loses power."""
        self._lost = True
        await self._terminate_containers(grace=0.0)

    # -- its own life --------------------------------------------------------------------------------------------

    def _create_container(self, spec: Object) -> ContainerProcess:
        around = self._around
        return ContainerProcess(spec, self.folder, around.clock, self._report_status, around.backoff)

    async def _run(self) -> None:
        containers = self._tasks.spawn("containers", self._run_containers())
        _, late = await asyncio.wait([containers], timeout=self._spec.get("activeDeadlineSeconds"))
        if late:
            self._failure = PodFailure(
                "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
            )
            self._kill_containers()
            await asyncio.wait([containers])
        if (error := containers.exception()) is not None and self._failure is None:
            self._failure = PodFailure("AgentError", repr(error))

    async def _run_containers(self) -> None:
        beside = []
        try:
            for container in self._init:
                if container.spec.get("restartPolicy") == "Always":
                    beside.append(self._tasks.spawn(container.name, container.run(self._prepare_container, "Always")))
                    continue
                policy = "OnFailure" if self._policy != "Never" else "Never"
                if code := await container.run(self._prepare_container, policy):
                    self._failure = PodFailure("", f"init container {container.name} ended with {code}")
                    return
            await asyncio.gather(*(container.run(self._prepare_container, self._policy) for container in self._main))
        finally:
            for container in self._init:
                container.kill(final=True)
            if beside:
                await asyncio.wait(beside)

    async def _prepare_container(self, spec: Object) -> ProcessLaunch:
        around = self._around
        volumes = Volumes(around.api, self._pod, self.folder, around.root / "claims")
        launcher = Launcher(
            around.api,
            self._pod,
            self.folder,
            volumes,
            entrypoints=around.entrypoints,
            environment=around.environment,
        )
        return await launcher.prepare_container(spec, self._devices.get(spec["name"], ()))

    async def report_end(self) -> None:
        """Reports the final status of a pod that ended by itself."""
        self._over = True
        await self._report_status()

    async def _terminate_containers(self, grace: float) -> None:
        """SIGTERM, up to `grace` seconds, SIGKILL; no effect on a pod that has ended."""
        if self._over:
            return
        if grace > 0:
            for container in self.containers:
                container.terminate()
            if self._running is not None:
                await asyncio.wait([self._running], timeout=grace)
        self._kill_containers()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=_LAST_WORD)
        await self._tasks.close()
        self._over = True

    def _kill_containers(self) -> None:
        for container in self.containers:
            container.kill(final=True)

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """The pod's `status` for the API server."""
        phase = self._compute_phase()
        init = all(c.exit_code == 0 or c.is_running for c in self._init)
        ready = init and all(c.is_running for c in self._main)
        ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
        conditions = [
            self._build_condition("Initialized", init, "ContainersNotInitialized"),
            self._build_condition("ContainersReady", ready, ended),
            self._build_condition("Ready", ready, ended),
        ]
        status: Object = {
            "phase": phase,
            "startTime": self._begun,
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "containerStatuses": [container.status() for container in self._main],
        }
        if self._init:
            status["initContainerStatuses"] = [container.status() for container in self._init]
        if self._failure is not None:
            status |= {"reason": self._failure.reason, "message": self._failure.message}
            if self._failure.disruption:
                conditions.append(self._build_condition("DisruptionTarget", True, "", self._failure.disruption))
        return {**status, "conditions": conditions}

    def _compute_phase(self) -> str:
        if not self._over:
            started = any(c.process is not None for c in self._main)
            return "Running" if started else "Pending"
        clean = self._failure is None and all(c.exit_code == 0 for c in self._main)
        return "Succeeded" if clean else "Failed"

    def _build_condition(self, kind: str, holds: bool, otherwise: str, reason: str = "") -> Object:
        status = str(holds)
        if self._transitions.get(kind, ("", ""))[0] != status:
            self._transitions[kind] = (status, format_timestamp(self._around.clock))
        why = reason if holds else otherwise
        condition = {"type": kind, "status": status, "lastTransitionTime": self._transitions[kind][1]}
        return {**condition, "reason": why} if why else condition

    async def _report_status(self) -> None:
        async with self._telling:
            await self._retry_until_accepted(
                "PATCH", "/status", {"metadata": {"uid": self.uid}, "status": self.status()}
            )

    async def _retry_until_accepted(self, method: str, part: str, body: Object) -> None:
        """Retries a request until the API server accepts it; gives up if the pod is gone or was replaced."""
        path = PODS.path(self.namespace, self.name) + part
        while not self._lost:
            try:
                await self._around.api.request(method, path, body, content=STRATEGIC if part else "application/json")
                return
            except ApiError as error:
                if error.status in {404, 409, 422}:
                    return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(_RETRY)
