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
from tests.kube.cluster.processes import dies_with_parent
from tests.kube.cluster.volumes import MissingSource

_MESSAGE_LIMIT = 4096  # bytes, the kubelet's own
_LOG_TAIL = 2048
_RETRY = 0.5  # seconds until a container that cannot be prepared is tried again
_MEMORY_LOOK = 0.2
_KILLED = 137
_PAGE = os.sysconf("SC_PAGE_SIZE")
Changed = Callable[[], Awaitable[None]]


def format_timestamp(clock: Clock) -> str:
    """Current time in the API's format, whole seconds."""
    return datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ContainerProcess:
    """A container and its current process."""

    def __init__(self, spec: Object, folder: Path, clock: Clock, changed: Changed, backoff: float) -> None:
        """`changed` is awaited after every change of state; `backoff` is the first pause before a restart."""
        self.spec = spec
        self.name: str = spec["name"]
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._folder = folder
        self._clock = clock
        self._changed = changed
        self._backoff = backoff
        self._killed_as = ""
        self._ending = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return "running" in self.state

    @property
    def is_terminating(self) -> bool:
        """Whether SIGTERM or the last SIGKILL was sent."""
        return self._ending.is_set()

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last termination; None before the first."""
        ended = self.state.get("terminated")
        return None if ended is None else ended["exitCode"]

    def log_path(self, *, previous: bool = False) -> Path:
        """Log file of the current process, or of the previous one."""
        return self._folder / f"{self.name}.{self.restarts - previous}.log"

    async def run(self, prepare: Callable[[Object], Awaitable[ProcessLaunch]], policy: str) -> int:
        """Runs until restartPolicy `policy` (Never, OnFailure, Always) allows no restart; returns the exit code."""
        code = _KILLED
        while (launch := await self._prepare_launch(prepare)) is not None:
            code = await self._run_once(launch)
            again = policy == "Always" or (policy == "OnFailure" and code != 0)
            if self._ending.is_set() or not again:
                return code
            self.last_state = self.state
            self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off after exit code {code}"}}
            await self._changed()
            await self._back_off(min(self._backoff * 2**self.restarts, 300.0))
            self.restarts += 1
        return code

    def terminate(self) -> None:
        """SIGTERM to the process, not to its children, as a container runtime does. Prevents restarts."""
        self._ending.set()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()

    def kill(self, reason: str = "", *, final: bool = False) -> None:
        """SIGKILL to the process and its children; the state gets `reason`, if given. No restart if `final`."""
        if final:
            self._ending.set()
        self._killed_as = reason
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
        while not self._ending.is_set():
            try:
                return await prepare(self.spec)
            except UnknownImage as error:
                waiting = {"reason": "ErrImagePull", "message": str(error)}
            except (ApiError, MissingSource, aiohttp.ClientError, TimeoutError) as error:
                waiting = {"reason": "CreateContainerConfigError", "message": str(error)}
            if self.state != {"waiting": waiting}:
                self.state = {"waiting": waiting}
                await self._changed()
            await self._back_off(_RETRY)
        return None

    async def _back_off(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _run_once(self, launch: ProcessLaunch) -> int:
        begun = format_timestamp(self._clock)
        self._killed_as = ""
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
            return self._record_termination(begun, 128, "StartError", str(error))
        self.state = {"running": {"startedAt": begun}}
        await self._changed()
        code = await self._wait_for_exit(self.process)
        _kill_group(self.process.pid)  # a container's processes do not outlive its first one
        code = 128 - code if code < 0 else code
        return self._record_termination(begun, code, self._killed_as, self._read_termination_message(launch, code))

    def _record_termination(self, begun: str, code: int, reason: str, message: str) -> int:
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "startedAt": begun}
        ended["finishedAt"] = format_timestamp(self._clock)
        if message:
            ended["message"] = message
        self.state = {"terminated": ended}
        return code

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> int:
        """Waits for the return code; kills the process when it exceeds its memory limit."""
        limit = memory_limit(self.spec)
        while limit is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(process.wait(), _MEMORY_LOOK)
            if _resident_bytes(process.pid) > limit:
                self.kill("OOMKilled")
        return await process.wait()

    def _read_termination_message(self, launch: ProcessLaunch, code: int) -> str:
        with contextlib.suppress(OSError):
            if message := launch.termination_log.read_bytes():
                return message[:_MESSAGE_LIMIT].decode(errors="replace")
        if code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return self.log_path().read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        return ""


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants; 0 after their end."""
    total = 0
    with contextlib.suppress(OSError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += _resident_bytes(int(child))
    return total
