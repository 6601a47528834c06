"""One pod on one node: its containers from the first start to the last word about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from epp.clock import Clock
from epp.tasks import Tasks
from tests.kube.cluster.client import PODS, STRATEGIC, Api, ApiError, Object
from tests.kube.cluster.container_process import ContainerProcess, stamp
from tests.kube.cluster.launch import Launch, Launcher
from tests.kube.cluster.volumes import Volumes

_RETRY = 0.2  # seconds until the API server is told again what it could not hear
_LAST_WORD = 5.0  # seconds for the final status after the processes have ended


class Surroundings(NamedTuple):
    """What all pods of an agent share."""

    api: Api
    clock: Clock
    root: Path
    entrypoints: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    backoff: float  # seconds before the first restart of a container


class Failure(NamedTuple):
    """Why a pod failed for another reason than its containers' exit codes."""

    reason: str
    message: str
    disruption: str = ""  # reason of the condition DisruptionTarget


class PodRun:
    """A pod that is bound to a node of ours."""

    def __init__(self, around: Surroundings, pod: Object, address: str) -> None:
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
        self._begun = stamp(around.clock)
        self._transitions: dict[str, tuple[str, str]] = {}
        self._failure: Failure | None = None
        self._lost = False
        self._over = False
        self._telling = asyncio.Lock()
        self._tasks = Tasks(f"pod/{self.name}")
        self._running: asyncio.Task[None] | None = None
        self._devices: Mapping[str, Sequence[str]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._init = [self._container(spec) for spec in self._spec.get("initContainers", [])]
        self._main = [self._container(spec) for spec in self._spec["containers"]]

    # -- what others ask -----------------------------------------------------------------------------------------

    @property
    def processes(self) -> list[int]:
        """Process ids of the containers that run."""
        return [c.process.pid for c in self.containers if c.process is not None and c.running]

    @property
    def containers(self) -> list[ContainerProcess]:
        """Init containers, then the others."""
        return [*self._init, *self._main]

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self._over

    def container(self, name: str) -> ContainerProcess | None:
        """The container of that name; the first one for an empty name."""
        return next((c for c in self._main + self._init if name in ("", c.name)), None)

    # -- what the agent does to it -------------------------------------------------------------------------------

    def start(self, devices: Mapping[str, Sequence[str]]) -> asyncio.Task[None]:
        """Runs the pod; `devices` are the names that each container gets. The task ends with the pod's processes."""
        self._devices = devices
        self._running = self._tasks.spawn("run", self._run())
        return self._running

    async def refuse(self, reason: str, message: str) -> None:
        """The kubelet's refusal to admit a pod: it fails without having run."""
        self._failure = Failure(reason, message)
        self._over = True
        await self._tell()

    async def fail(self, failure: Failure) -> None:
        """Kills the containers and fails the pod, as an eviction under node pressure does."""
        self._failure = failure
        await self._end(grace=0.0)
        await self._tell()

    async def stop(self, grace: float) -> None:
        """The API wants it gone: SIGTERM, `grace` seconds, SIGKILL, the last status, and the object is released."""
        await self._end(grace)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._tell(), _LAST_WORD)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._insist("DELETE", "", options)

    async def lose(self) -> None:
        """The node is gone: processes die, nobody hears of it."""
        self._lost = True
        await self._end(grace=0.0)

    # -- its own life --------------------------------------------------------------------------------------------

    def _container(self, spec: Object) -> ContainerProcess:
        around = self._around
        return ContainerProcess(spec, self.folder, around.clock, self._tell, around.backoff)

    async def _run(self) -> None:
        containers = self._tasks.spawn("containers", self._containers())
        _, late = await asyncio.wait([containers], timeout=self._spec.get("activeDeadlineSeconds"))
        if late:
            self._failure = Failure("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self._kill()
            await asyncio.wait([containers])
        if (error := containers.exception()) is not None and self._failure is None:
            self._failure = Failure("AgentError", repr(error))

    async def _containers(self) -> None:
        beside = []
        try:
            for container in self._init:
                if container.spec.get("restartPolicy") == "Always":
                    beside.append(self._tasks.spawn(container.name, container.run(self._prepare, "Always")))
                    continue
                policy = "OnFailure" if self._policy != "Never" else "Never"
                if code := await container.run(self._prepare, policy):
                    self._failure = Failure("", f"init container {container.name} ended with {code}")
                    return
            await asyncio.gather(*(container.run(self._prepare, self._policy) for container in self._main))
        finally:
            for container in self._init:
                container.kill(final=True)
            if beside:
                await asyncio.wait(beside)

    async def _prepare(self, spec: Object) -> Launch:
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
        return await launcher.prepare(spec, self._devices.get(spec["name"], ()))

    async def finished(self) -> None:
        """The last word of a pod that ended by itself."""
        self._over = True
        await self._tell()

    async def _end(self, grace: float) -> None:
        """SIGTERM, up to `grace` seconds, SIGKILL; nothing for a pod that has ended."""
        if self._over:
            return
        if grace > 0:
            for container in self.containers:
                container.terminate()
            if self._running is not None:
                await asyncio.wait([self._running], timeout=grace)
        self._kill()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=_LAST_WORD)
        await self._tasks.close()
        self._over = True

    def _kill(self) -> None:
        for container in self.containers:
            container.kill(final=True)

    # -- what it tells -------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """`status` as the API server shall have it."""
        phase = self._phase()
        init = all(c.exit_code == 0 or c.running for c in self._init)
        ready = init and all(c.running for c in self._main)
        ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "ContainersNotReady")
        conditions = [
            self._condition("Initialized", init, "ContainersNotInitialized"),
            self._condition("ContainersReady", ready, ended),
            self._condition("Ready", ready, ended),
        ]
        told: Object = {
            "phase": phase,
            "startTime": self._begun,
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "containerStatuses": [container.status() for container in self._main],
        }
        if self._init:
            told["initContainerStatuses"] = [container.status() for container in self._init]
        if self._failure is not None:
            told |= {"reason": self._failure.reason, "message": self._failure.message}
            if self._failure.disruption:
                conditions.append(self._condition("DisruptionTarget", True, "", self._failure.disruption))
        return {**told, "conditions": conditions}

    def _phase(self) -> str:
        if not self._over:
            started = any(c.process is not None for c in self._main)
            return "Running" if started else "Pending"
        clean = self._failure is None and all(c.exit_code == 0 for c in self._main)
        return "Succeeded" if clean else "Failed"

    def _condition(self, kind: str, holds: bool, otherwise: str, reason: str = "") -> Object:
        status = str(holds)
        if self._transitions.get(kind, ("", ""))[0] != status:
            self._transitions[kind] = (status, stamp(self._around.clock))
        why = reason if holds else otherwise
        condition = {"type": kind, "status": status, "lastTransitionTime": self._transitions[kind][1]}
        return {**condition, "reason": why} if why else condition

    async def _tell(self) -> None:
        async with self._telling:
            await self._insist("PATCH", "/status", {"metadata": {"uid": self.uid}, "status": self.status()})

    async def _insist(self, method: str, part: str, body: Object) -> None:
        """Repeats a call until the API server has heard it. A pod that is gone, or another by now, needs no word."""
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
