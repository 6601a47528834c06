"""Runs one container as one process: starts, watches, restarts and kills it, and reports its states as the API does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from epp.clock import Clock
from tests.kube.cluster.client import ApiError, Object
from tests.kube.cluster.containers import UnknownImage, memory_limit
from tests.kube.cluster.launch import ProcessLaunch
from tests.kube.cluster.processes import dies_with_parent, resident_bytes
from tests.kube.cluster.volumes import MissingSource

_MESSAGE_LIMIT = 4096  # bytes: the kubelet's MaxContainerTerminationMessageLength
_LOG_TAIL = 2048  # bytes: its MaxContainerTerminationMessageLogLength
_RETRY = 0.5  # seconds until a container that cannot be prepared is tried again
_MEMORY_POLL = 0.2  # seconds
_KILLED = 137  # 128 + SIGKILL
OnStateChange = Callable[[], Awaitable[None]]


def format_timestamp(clock: Clock) -> str:
    """Current time in the API's format, whole seconds."""
    return datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ContainerProcess:
    """A container and its current process."""

    def __init__(
        self, spec: Object, folder: Path, clock: Clock, on_state_change: OnStateChange, backoff: float
    ) -> None:
        """`on_state_change` is awaited after every change of state; `backoff` is the first pause before a restart."""
        self.spec = spec
        self.name: str = spec["name"]
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._folder = folder
        self._clock = clock
        self._on_state_change = on_state_change
        self._backoff = backoff
        self._kill_reason = ""
        self._termination_requested = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return "running" in self.state

    @property
    def is_terminating(self) -> bool:
        """Whether SIGTERM or the last SIGKILL was sent."""
        return self._termination_requested.is_set()

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last termination; None before the first."""
        terminated = self.state.get("terminated")
        return None if terminated is None else terminated["exitCode"]

    def log_path(self, *, previous: bool = False) -> Path:
        """Log file of the current process, or of the previous one."""
        return self._folder / f"{self.name}.{self.restarts - previous}.log"

    async def run(self, prepare: Callable[[Object], Awaitable[ProcessLaunch]], policy: str) -> int:
        """Runs until restartPolicy `policy` (Never, OnFailure, Always) allows no restart; returns the exit code."""
        code = _KILLED
        while (launch := await self._prepare_launch(prepare)) is not None:
            code = await self._run_once(launch)
            restarts = policy == "Always" or (policy == "OnFailure" and code != 0)
            if self._termination_requested.is_set() or not restarts:
                return code
            self.last_state = self.state
            self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off after exit code {code}"}}
            await self._on_state_change()
            await self._sleep_unless_terminated(min(self._backoff * 2**self.restarts, 300.0))
            self.restarts += 1
        return code

    def terminate(self) -> None:
        """SIGTERM to the process, not to its children, as a container runtime does. Prevents restarts."""
        self._termination_requested.set()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()

    def kill(self, reason: str = "", *, final: bool = False) -> None:
        """SIGKILL to the process and its children; the state gets `reason`, if given. No restart if `final`."""
        if final:
            self._termination_requested.set()
        self._kill_reason = reason
        if self.process is not None and self.process.returncode is None:
            _kill_group(self.process.pid)

    def status(self) -> Object:
        """The container's entry of `containerStatuses`."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "containerID": f"process://{self.process.pid}" if self.process else "",
            "ready": self.is_running,
            "started": self.is_running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    async def _prepare_launch(self, prepare: Callable[[Object], Awaitable[ProcessLaunch]]) -> ProcessLaunch | None:
        """Waits for config maps, secrets and claims to exist, as the kubelet does; None if terminated before."""
        while not self._termination_requested.is_set():
            try:
                return await prepare(self.spec)
            except UnknownImage as error:
                waiting = {"reason": "ErrImagePull", "message": str(error)}
            except (ApiError, MissingSource, aiohttp.ClientError, TimeoutError) as error:
                waiting = {"reason": "CreateContainerConfigError", "message": str(error)}
            if self.state != {"waiting": waiting}:
                self.state = {"waiting": waiting}
                await self._on_state_change()
            await self._sleep_unless_terminated(_RETRY)
        return None

    async def _sleep_unless_terminated(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._termination_requested.wait(), seconds)

    async def _run_once(self, launch: ProcessLaunch) -> int:
        started_at = format_timestamp(self._clock)
        self._kill_reason = ""
        try:
            with self.log_path().open("wb") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *launch.argv,
                    env=launch.environment,
                    cwd=launch.folder,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=dies_with_parent(),
                )
        except OSError as error:
            return self._record_termination(started_at, 128, "StartError", str(error))
        self.state = {"running": {"startedAt": started_at}}
        await self._on_state_change()
        code = await self._wait_for_exit(self.process)
        _kill_group(self.process.pid)  # a container's processes do not outlive its first one
        code = 128 - code if code < 0 else code
        return self._record_termination(
            started_at, code, self._kill_reason, self._read_termination_message(launch, code)
        )

    def _record_termination(self, started_at: str, code: int, reason: str, message: str) -> int:
        terminated = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "startedAt": started_at}
        terminated["finishedAt"] = format_timestamp(self._clock)
        if message:
            terminated["message"] = message
        self.state = {"terminated": terminated}
        return code

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> int:
        """Waits for the return code; kills the process when it exceeds its memory limit."""
        limit = memory_limit(self.spec)
        while limit is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(process.wait(), _MEMORY_POLL)
            if resident_bytes(process.pid) > limit:
                self.kill("OOMKilled")
        return await process.wait()

    def _read_termination_message(self, launch: ProcessLaunch, code: int) -> str:
        """The end of the file, or of the log by FallbackToLogsOnError. kubelet: getTerminationMessage."""
        with contextlib.suppress(OSError):
            if message := launch.termination_log.read_bytes():
                return message[-_MESSAGE_LIMIT:].decode(errors="replace")
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return self.log_path().read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        return ""


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
