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
from tests.kube.cluster.client import JSON, PODS, STRATEGIC, ApiError, KubeApi, Object
from tests.kube.cluster.container_process import ContainerProcess, format_timestamp
from tests.kube.cluster.launch import Launcher, ProcessLaunch
from tests.kube.cluster.volumes import Volumes

_RETRY = 0.2  # seconds between two attempts to report a status
_FINAL_STATUS_SECONDS = 5.0  # seconds for the final status after the processes have ended


class AgentContext(NamedTuple):
    """The agent's connection, folders and settings, for all its pods."""

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

    def __init__(self, agent: AgentContext, pod: Object, address: str) -> None:
        """`address` becomes the podIP: one of 127.0.0.0/8, so that pods may share a port."""
        metadata = pod["metadata"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.node: str = pod["spec"]["nodeName"]
        self.address = address
        self.folder = agent.root / "pods" / self.uid
        self._agent = agent
        self._spec = pod["spec"]
        self._policy = self._spec.get("restartPolicy", "Always")
        status = {**pod.get("status", {}), "podIP": address, "hostIP": "127.0.0.1"}
        self._pod = {**pod, "status": status}
        self._started_at = format_timestamp(agent.clock)
        self._transitions: dict[str, tuple[str, str]] = {}
        self._failure: PodFailure | None = None
        self._lost = False
        self._has_ended = False
        self._status_lock = asyncio.Lock()
        self._tasks = Tasks(f"pod/{self.name}")
        self._running: asyncio.Task[None] | None = None
        self._devices: Mapping[str, Sequence[str]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._init = [self._create_container(spec) for spec in self._spec.get("initContainers", [])]
        self._main = [self._create_container(spec) for spec in self._spec["containers"]]

    # -- queries -----------------------------------------------------------------------------------------------------

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
        return self._has_ended

    def find_container(self, name: str) -> ContainerProcess | None:
        """The container of that name; the first one for an empty name."""
        return next((c for c in self._main + self._init if name in ("", c.name)), None)

    # -- called by the agent -----------------------------------------------------------------------------------------

    def start(self, devices: Mapping[str, Sequence[str]]) -> asyncio.Task[None]:
        """Runs the pod; `devices` are the names that each container gets. The task ends with the pod's processes."""
        self._devices = devices
        self._running = self._tasks.spawn("run", self._run())
        return self._running

    async def reject(self, reason: str, message: str) -> None:
        """Fails the pod without running it, as a kubelet does that does not admit a pod."""
        self._failure = PodFailure(reason, message)
        self._has_ended = True
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
            await asyncio.wait_for(self._report_status(), _FINAL_STATUS_SECONDS)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._retry_until_accepted("DELETE", "", options)

    async def lose_power(self) -> None:
        """Kills the processes without reporting a status, as when the node loses power."""
        self._lost = True
        await self._terminate_containers(grace=0.0)

    # -- containers --------------------------------------------------------------------------------------------------

    def _create_container(self, spec: Object) -> ContainerProcess:
        agent = self._agent
        return ContainerProcess(spec, self.folder, agent.clock, self._report_status, agent.backoff)

    async def _run(self) -> None:
        containers = self._tasks.spawn("containers", self._run_containers())
        _, unfinished = await asyncio.wait([containers], timeout=self._spec.get("activeDeadlineSeconds"))
        if unfinished:
            self._failure = PodFailure(
                "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
            )
            self._kill_containers()
            await asyncio.wait([containers])
        if (error := containers.exception()) is not None and self._failure is None:
            self._failure = PodFailure("AgentError", repr(error))

    async def _run_containers(self) -> None:
        sidecars = []
        try:
            for container in self._init:
                # Kubernetes: a sidecar container is an init container with this restart policy.
                if container.spec.get("restartPolicy") == "Always":
                    sidecars.append(self._tasks.spawn(container.name, container.run(self._prepare_container, "Always")))
                    continue
                policy = "OnFailure" if self._policy != "Never" else "Never"
                if code := await container.run(self._prepare_container, policy):
                    self._failure = PodFailure("", f"init container {container.name} ended with {code}")
                    return
            await asyncio.gather(*(container.run(self._prepare_container, self._policy) for container in self._main))
        finally:
            for container in self._init:
                container.kill(final=True)
            if sidecars:
                await asyncio.wait(sidecars)

    async def _prepare_container(self, spec: Object) -> ProcessLaunch:
        agent = self._agent
        volumes = Volumes(agent.api, self._pod, self.folder, agent.root / "claims")
        launcher = Launcher(
            agent.api,
            self._pod,
            self.folder,
            volumes,
            entrypoints=agent.entrypoints,
            environment=agent.environment,
        )
        return await launcher.prepare_container(spec, self._devices.get(spec["name"], ()))

    async def report_end(self) -> None:
        """Reports the final status of a pod that ended by itself."""
        self._has_ended = True
        await self._report_status()

    async def _terminate_containers(self, grace: float) -> None:
        """SIGTERM, up to `grace` seconds, SIGKILL; no effect on a pod that has ended."""
        if self._has_ended:
            return
        if grace > 0:
            for container in self.containers:
                container.terminate()
            if self._running is not None:
                await asyncio.wait([self._running], timeout=grace)
        self._kill_containers()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=_FINAL_STATUS_SECONDS)
        await self._tasks.close()
        self._has_ended = True

    def _kill_containers(self) -> None:
        for container in self.containers:
            container.kill(final=True)

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """The pod's `status` for the API server."""
        phase = self._compute_phase()
        init = all(c.exit_code == 0 or c.is_running for c in self._init)
        ready = init and all(c.is_running for c in self._main)
        not_ready_reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
        conditions = [
            self._build_condition("Initialized", init, "ContainersNotInitialized"),
            self._build_condition("ContainersReady", ready, not_ready_reason),
            self._build_condition("Ready", ready, not_ready_reason),
        ]
        status: Object = {
            "phase": phase,
            "startTime": self._started_at,
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
        if not self._has_ended:
            started = any(c.process is not None for c in self._main)
            return "Running" if started else "Pending"
        clean = self._failure is None and all(c.exit_code == 0 for c in self._main)
        return "Succeeded" if clean else "Failed"

    def _build_condition(self, kind: str, holds: bool, reason_if_false: str, reason_if_true: str = "") -> Object:
        status = str(holds)
        if self._transitions.get(kind, ("", ""))[0] != status:
            self._transitions[kind] = (status, format_timestamp(self._agent.clock))
        reason = reason_if_true if holds else reason_if_false
        condition = {"type": kind, "status": status, "lastTransitionTime": self._transitions[kind][1]}
        return {**condition, "reason": reason} if reason else condition

    async def _report_status(self) -> None:
        async with self._status_lock:
            await self._retry_until_accepted(
                "PATCH", "/status", {"metadata": {"uid": self.uid}, "status": self.status()}
            )

    async def _retry_until_accepted(self, method: str, subresource: str, body: Object) -> None:
        """Retries a request until the API server accepts it; gives up if the pod is gone or was replaced."""
        path = PODS.path(self.namespace, self.name) + subresource
        while not self._lost:
            try:
                content_type = STRATEGIC if subresource else JSON
                await self._agent.api.request(method, path, body, content_type=content_type)
                return
            except ApiError as error:
                if error.status in {404, 409, 422}:
                    return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(_RETRY)
