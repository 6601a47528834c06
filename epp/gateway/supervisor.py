"""Child processes: started, watched, restarted, and never left behind."""

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
INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.02, 5.0
# A child that has lived this long is well: its next restart is at once again.
BACKOFF_RESET_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A child to be: how to start it, and how to see that it serves."""

    name: str
    argv: Sequence[str]
    is_ready: ReadinessProbe
    pass_fds: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}


class ChildProcess:
    """A program and the process that runs it at present."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log_path = log
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.ready = False
        self.log_offset = 0

    @property
    def pid(self) -> int:
        """Process id; 0 while there is no process."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else 0

    def tail_log(self, count: int = 15) -> str:
        """The end of what the newest process has written, indented."""
        lines = self.log_path.read_bytes()[self.log_offset :].decode("utf-8", "replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"

    def send_signal(self, number: int) -> None:
        """Sends `number` to the process and all that it has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Supervisor:
    """Starts children, restarts those that die, ends all of them with `close`.

    Each child leads a process group of its own, so that Ctrl-C reaches the supervisor alone; on Linux the kernel kills
    it when the supervisor dies without having said good-bye.
    """

    def __init__(self, folder: Path, clock: Clock, say: PrintLine) -> None:
        self._folder = folder
        self._clock = clock
        self._print_line = say
        self._tasks = Tasks("gateway")
        self.children: dict[str, ChildProcess] = {}

    async def start(self, program: Program, seconds: float = START_TIMEOUT_SECONDS) -> ChildProcess:
        """Starts `program` and waits until it serves. Raises GatewayError with the end of its log."""
        child = await self.launch(program)
        await self.wait_ready(child, seconds)
        return child

    async def launch(self, program: Program) -> ChildProcess:
        """Starts `program` without waiting for it."""
        child = ChildProcess(program, self._folder / f"{program.name}.log")
        self.children[program.name] = child
        await self._spawn_process(child)
        return child

    async def wait_ready(self, child: ChildProcess, seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Waits until `child` serves, then keeps it alive. Raises GatewayError if it dies or takes longer."""
        deadline = self._clock.now() + seconds
        name = child.program.name
        while not await child.program.is_ready():
            if not child.pid:
                raise GatewayError(
                    f"{name} ended at once ({_describe_exit(child)}); its last lines:\n{child.tail_log()}"
                )
            if self._clock.now() > deadline:
                raise GatewayError(f"{name} is not ready after {seconds:.0f} s; its last lines:\n{child.tail_log()}")
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)
        child.ready = True
        self._tasks.spawn(name, self._supervise(child))

    async def close(self) -> None:
        """Ends every child: SIGTERM, then SIGKILL after a grace."""
        await self._tasks.close()
        running = [child for child in self.children.values() if child.pid]
        for child in running:
            child.send_signal(signal.SIGTERM)
            child.send_signal(signal.SIGCONT)  # a stopped process hears SIGTERM only then
        await self._wait_for_exit(running, TERMINATION_GRACE_SECONDS)
        for child in running:
            child.send_signal(signal.SIGKILL)
        await self._wait_for_exit(running, TERMINATION_GRACE_SECONDS)

    def send_signal(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the child called `name`; returns the pid that got it, 0 if there was none."""
        child = self.children[name]
        pid = child.pid
        child.send_signal(number)
        return pid

    async def _wait_for_exit(self, children: Sequence[ChildProcess], seconds: float) -> None:
        ends = [child.process.wait() for child in children if child.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ends), seconds)

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
                raise GatewayError(f"{program.name}: {program.argv[0]} cannot be run: {error.strerror}") from error

    async def _supervise(self, child: ChildProcess) -> None:
        pause = INITIAL_BACKOFF_SECONDS
        while True:
            process = child.process
            assert process is not None
            started = self._clock.now()
            await process.wait()
            child.ready = False
            name = child.program.name
            self._print_line(f"{name} ended ({_describe_exit(child)}); its last lines:\n{child.tail_log(5)}")
            pause = INITIAL_BACKOFF_SECONDS if self._clock.now() - started > BACKOFF_RESET_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(MAX_BACKOFF_SECONDS, pause * 4)
            child.restarts += 1
            restarted = self._clock.now()
            try:
                await self._spawn_process(child)
            except GatewayError as error:
                self._print_line(str(error))
                continue
            while child.pid and not child.ready:
                await asyncio.sleep(PROBE_INTERVAL_SECONDS)
                child.ready = await child.program.is_ready()
            if child.ready:
                self._print_line(f"{name} serves again, {self._clock.now() - restarted:.1f} s after its start")


def _describe_exit(child: ChildProcess) -> str:
    code = child.process.returncode if child.process is not None else None
    if code is None:
        return "still running"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _kill_with_parent(parent: int) -> Callable[[], None] | None:
    """What a child does first: asks the kernel to be killed when its parent is gone (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
