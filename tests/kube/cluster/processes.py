"""Runs the control plane's programs as processes: each in its own session, with a log file, stopped by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

_PR_SET_PDEATHSIG = 1
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_TAIL = 3000  # bytes of log that an error shows


class ProcessDied(Exception):
    """A process ended unexpectedly; the message ends with the tail of its log."""


class ProgramCommand(NamedTuple):
    """How one program is started and stopped."""

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = {}
    stop: signal.Signals = signal.SIGTERM


class ProgramSet:
    """The running programs of one plane, by name, in order of their start."""

    def __init__(self, programs: Path, folder: Path) -> None:
        """`programs` holds the binaries; `folder` becomes their working directory and takes NAME.log."""
        self._programs = programs
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stops: dict[str, signal.Signals] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def start(self, command: ProgramCommand) -> None:
        """Starts a program, its output appended to its log; ValueError if it is already running."""
        name = command.program
        if name in self._running:
            raise ValueError(f"{name} is already running")
        with self.log_path(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [self._programs / name, *command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, **command.environment},
                start_new_session=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 -- one system call, nothing that a lock could hold
            )
        self._stops[name] = command.stop

    async def stop(self, name: str, grace: float = 8.0) -> None:
        """Signals the program and waits; SIGKILL after `grace` seconds. No effect if it does not run."""
        process = self._running.pop(name, None)
        if process is None:
            return
        process.send_signal(self._stops[name])  # no effect on one that has died
        try:
            await asyncio.to_thread(process.wait, grace)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def close(self) -> None:
        """Stops everything, last started first."""
        for name in reversed(list(self._running)):
            await self.stop(name)

    def raise_if_died(self) -> None:
        """Raises ProcessDied if a program ended by itself."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise ProcessDied(
                    f"{name} ended with {code}; the end of {self.log_path(name)}:\n{read_tail(self.log_path(name))}"
                )

    def log_path(self, name: str) -> Path:
        """Log file of a program."""
        return self._folder / f"{name}.log"

    def process_ids(self) -> dict[str, int]:
        """Process ids, by name."""
        return {name: process.pid for name, process in self._running.items()}

    def resident_memory(self) -> dict[str, int]:
        """Resident MiB of each running program."""
        return {
            name: resident_bytes(process.pid) >> 20 for name, process in self._running.items() if process.poll() is None
        }


def read_tail(path: Path, size: int = _TAIL) -> str:
    """The last `size` bytes of a text file; empty if there is none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace")
    return ""


class PortLease:
    """Ports of 127.0.0.1 leased until `release`; lock files keep other control planes on this machine off them.

    They are below Linux's default `ip_local_port_range`, so that a server can be stopped and started again on its port:
    no outgoing connection is given it meanwhile.
    """

    def __init__(self, count: int) -> None:
        """Leases `count` ports; OSError if there are not so many."""
        self.ports: list[int] = []
        self._locks: list[IO[str]] = []
        for port in range(20000, 32000):
            if len(self.ports) == count:
                return
            self._lease_port(port)
        self.release()
        raise OSError(f"no {count} free ports between 20000 and 32000")

    def release(self) -> None:
        """Releases the ports; idempotent."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def _lease_port(self, port: int) -> None:
        folder = Path(tempfile.gettempdir()) / f"epp-kube-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            return
        self._locks.append(lock)
        self.ports.append(port)


def dies_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn`: the kernel signals the child when the thread that starts it ends, however it ends (prctl(2))."""
    libc = ctypes.CDLL(None)  # loaded before the fork

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)

    return set_death_signal


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants (proc(5), `statm`); 0 after their end."""
    total = 0
    with contextlib.suppress(OSError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_SIZE
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += resident_bytes(int(child))
    return total
