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

Say = Callable[[str], None]
Probe = Callable[[], Awaitable[bool]]

PROBE_SECONDS = 0.05
GRACE_SECONDS = 3.0
START_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 5.0
# A child that has lived this long is well: its next restart is at once again.
WELL_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A child to be: how to start it, and how to see that it serves."""

    name: str
    argv: Sequence[str]
    ready: Probe
    pass_fds: tuple[int, ...] = ()
    environment: Mapping[str, str] = {}


class Child:
    """A program and the process that runs it at present."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.serving = False
        self.log_start = 0

    @property
    def pid(self) -> int:
        """Process id; 0 while there is no process."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else 0

    def last_lines(self, count: int = 15) -> str:
        """The end of what the newest process has written, indented."""
        lines = self.log.read_bytes()[self.log_start :].decode("utf-8", "replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"

    def signal(self, number: int) -> None:
        """Sends `number` to the process and all that it has started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Supervisor:
    """Starts children, restarts those that die, ends all of them with `close`.

    Each child leads a process group of its own, so that Ctrl-C reaches the supervisor alone; on Linux the kernel kills
    it when the supervisor dies without having said good-bye.
    """

    def __init__(self, folder: Path, clock: Clock, say: Say) -> None:
        self._folder = folder
        self._clock = clock
        self._say = say
        self._tasks = Tasks("gateway")
        self.children: dict[str, Child] = {}

    async def start(self, program: Program, seconds: float = START_SECONDS) -> Child:
        """Starts `program` and waits until it serves. Raises GatewayError with the end of its log."""
        child = await self.launch(program)
        await self.wait_ready(child, seconds)
        return child

    async def launch(self, program: Program) -> Child:
        """Starts `program` without waiting for it."""
        child = Child(program, self._folder / f"{program.name}.log")
        self.children[program.name] = child
        await self._spawn(child)
        return child

    async def wait_ready(self, child: Child, seconds: float = START_SECONDS) -> None:
        """Waits until `child` serves, then keeps it alive. Raises GatewayError if it dies or takes longer."""
        deadline = self._clock.now() + seconds
        name = child.program.name
        while not await child.program.ready():
            if not child.pid:
                raise GatewayError(f"{name} ended at once ({_ending(child)}); its last lines:\n{child.last_lines()}")
            if self._clock.now() > deadline:
                raise GatewayError(f"{name} is not ready after {seconds:.0f} s; its last lines:\n{child.last_lines()}")
            await asyncio.sleep(PROBE_SECONDS)
        child.serving = True
        self._tasks.spawn(name, self._keep(child))

    async def close(self) -> None:
        """Ends every child: SIGTERM, then SIGKILL after a grace."""
        await self._tasks.close()
        running = [child for child in self.children.values() if child.pid]
        for child in running:
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)  # a stopped process hears SIGTERM only then
        await self._gone(running, GRACE_SECONDS)
        for child in running:
            child.signal(signal.SIGKILL)
        await self._gone(running, GRACE_SECONDS)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the child called `name`; returns the pid that got it, 0 if there was none."""
        child = self.children[name]
        pid = child.pid
        child.signal(number)
        return pid

    async def _gone(self, children: Sequence[Child], seconds: float) -> None:
        ends = [child.process.wait() for child in children if child.process is not None]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ends), seconds)

    async def _spawn(self, child: Child) -> None:
        program = child.program
        with child.log.open("ab") as log:
            child.log_start = log.tell()
            try:
                child.process = await asyncio.create_subprocess_exec(
                    *program.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **program.environment},
                    pass_fds=program.pass_fds,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(os.getpid()),
                )
            except OSError as error:
                raise GatewayError(f"{program.name}: {program.argv[0]} cannot be run: {error.strerror}") from error

    async def _keep(self, child: Child) -> None:
        pause = FIRST_PAUSE
        while True:
            process = child.process
            assert process is not None
            started = self._clock.now()
            await process.wait()
            child.serving = False
            name = child.program.name
            self._say(f"{name} ended ({_ending(child)}); its last lines:\n{child.last_lines(5)}")
            pause = FIRST_PAUSE if self._clock.now() - started > WELL_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 4)
            child.restarts += 1
            restarted = self._clock.now()
            try:
                await self._spawn(child)
            except GatewayError as error:
                self._say(str(error))
                continue
            while child.pid and not child.serving:
                await asyncio.sleep(PROBE_SECONDS)
                child.serving = await child.program.ready()
            if child.serving:
                self._say(f"{name} serves again, {self._clock.now() - restarted:.1f} s after its start")


def _ending(child: Child) -> str:
    code = child.process.returncode if child.process is not None else None
    if code is None:
        return "still running"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """What a child does first: asks the kernel to be killed when its parent is gone (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask
