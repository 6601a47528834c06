"""Supervision of child processes: start, readiness, restart with backoff, termination."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from epp.clock import Clock
from epp.gateway.net import GatewayError
from epp.tasks import Tasks

PrintLine = Callable[[str], None]
ReadinessProbe = Callable[[], Awaitable[bool]]

PROBE_INTERVAL_SECONDS = 0.05
TERMINATION_GRACE_SECONDS = 3.0
START_TIMEOUT_SECONDS = 30.0
# Delay before a restart: grows by BACKOFF_FACTOR up to the maximum, and starts over after a process has run this long.
INITIAL_BACKOFF_SECONDS, BACKOFF_FACTOR, MAX_BACKOFF_SECONDS = 0.02, 4, 5.0
BACKOFF_RESET_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a child process, and how to find out whether it is ready."""

    name: str
    argv: Sequence[str]
    is_ready: ReadinessProbe
    pass_fds: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}


class ChildProcess:
    """A program and its current process, if one is running; output of all its processes goes to `log_path`."""

    def __init__(self, program: Program, log_path: Path) -> None:
        self.program = program
        self.log_path = log_path
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.ready = False
        self.log_offset = 0
        """Where the output of the current process starts."""

    @property
    def pid(self) -> int:
        """Process id; 0 if no process is running."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else 0

    def tail_log(self, count: int = 15) -> str:
        """The last lines that the latest process has written, indented."""
        lines = self.log_path.read_bytes()[self.log_offset :].decode("utf-8", "replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines) or "    (no output)"

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process and everything that it has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Supervisor:
    """Starts child processes, restarts those that exit, and terminates all of them in `close`.

    Each child leads a process group of its own, so that Ctrl-C reaches the supervisor only. If the supervisor is killed
    the kernel kills the children (Linux).
    """

    def __init__(self, folder: Path, clock: Clock, print_line: PrintLine) -> None:
        """Logs go to `folder`; exits and restarts are reported through `print_line`."""
        self._folder = folder
        self._clock = clock
        self._print_line = print_line
        self._tasks = Tasks("gateway")
        self.children: dict[str, ChildProcess] = {}

    async def start(self, program: Program, timeout_seconds: float = START_TIMEOUT_SECONDS) -> ChildProcess:
        """Starts `program` and waits until it is ready. Raises GatewayError with the end of its log."""
        child = await self.launch(program)
        await self.wait_ready(child, timeout_seconds)
        return child

    async def launch(self, program: Program) -> ChildProcess:
        """Starts `program` without waiting for it."""
        child = ChildProcess(program, self._folder / f"{program.name}.log")
        self.children[program.name] = child
        await self._spawn_process(child)
        return child

    async def wait_ready(self, child: ChildProcess, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Waits until `child` is ready; from then on it is restarted. Raises GatewayError if it exits or is late."""
        deadline = self._clock.now() + timeout_seconds
        name = child.program.name
        while not await child.program.is_ready():
            if not child.pid:
                raise GatewayError(
                    f"{name} exited during start ({_describe_exit(child)}); last output:\n{child.tail_log()}"
                )
            if self._clock.now() > deadline:
                raise GatewayError(
                    f"{name} is not ready after {timeout_seconds:.0f} s; last output:\n{child.tail_log()}"
                )
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)
        child.ready = True
        self._tasks.spawn(name, self._supervise(child))

    async def close(self) -> None:
        """Terminates all children: SIGTERM, after a grace period SIGKILL."""
        await self._tasks.close()
        running = [child for child in self.children.values() if child.pid]
        for child in running:
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGCONT)  # a stopped process handles SIGTERM only when continued
        await self._wait_for_exit(running, TERMINATION_GRACE_SECONDS)
        for child in running:
            child.send_signal(signal.SIGKILL)
        await self._wait_for_exit(running, TERMINATION_GRACE_SECONDS)

    def send_signal(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the child called `name`; returns the pid that received it, 0 if none was running."""
        child = self.children[name]
        pid = child.pid
        child.send_signal(number)
        return pid

    async def _wait_for_exit(self, children: Sequence[ChildProcess], timeout_seconds: float) -> None:
        exits = [child.process.wait() for child in children if child.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*exits), timeout_seconds)

    async def _spawn_process(self, child: ChildProcess) -> None:
        program = child.program
        with child.log_path.open("ab") as log:
            child.log_offset = log.tell()
            try:
                child.process = await asyncio.create_subprocess_exec(
                    *program.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **program.environment},
                    pass_fds=program.pass_fds,
                    start_new_session=True,
                    preexec_fn=_kill_with_parent(os.getpid()),
                )
            except OSError as error:
                raise GatewayError(f"{program.name}: cannot run {program.argv[0]}: {error.strerror}") from error

    async def _supervise(self, child: ChildProcess) -> None:
        """Restarts `child` whenever its process exits."""
        name = child.program.name
        backoff = INITIAL_BACKOFF_SECONDS
        while True:
            process = child.process
            assert process is not None
            started_at = self._clock.now()
            await process.wait()
            child.ready = False
            self._print_line(f"{name} exited ({_describe_exit(child)}); last output:\n{child.tail_log(5)}")
            if self._clock.now() - started_at > BACKOFF_RESET_SECONDS:
                backoff = INITIAL_BACKOFF_SECONDS
            await asyncio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * BACKOFF_FACTOR)
            child.restarts += 1
            restarted_at = self._clock.now()
            try:
                await self._spawn_process(child)
            except GatewayError as error:
                self._print_line(str(error))
                continue
            while child.pid and not child.ready:
                await asyncio.sleep(PROBE_INTERVAL_SECONDS)
                child.ready = await child.program.is_ready()
            if child.ready:
                self._print_line(f"{name} is ready again, {self._clock.now() - restarted_at:.1f} s after its restart")


def _describe_exit(child: ChildProcess) -> str:
    code = child.process.returncode if child.process is not None else None
    if code is None:
        return "still running"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _kill_with_parent(parent: int) -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel kills the child when its parent dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return set_death_signal
