"""Processes of a measurement: started, measured through /proc, and always stopped, each by its own pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement could not be made; the message says which process failed and how."""


class MeasuredProcess:
    """A child process with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log_path = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def check_running(self) -> None:
        """Raises BenchError if the process has exited."""
        code = self._child.poll()
        if code is not None:
            raise BenchError(f"{self.name} exited with {code}:\n{self.tail_log()}")

    def tail_log(self, lines: int = 12) -> str:
        """The last lines of its output, long ones truncated."""
        return "\n".join(line[:300] for line in self.log_path.read_text("utf-8", "replace").splitlines()[-lines:])

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far, in steps of 1 / SC_CLK_TCK."""
        self.check_running()
        stat = Path(f"/proc/{self.pid}/stat").read_text("ascii", "replace")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def rss_bytes(self) -> int:
        """Resident memory."""
        self.check_running()
        pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the process (SIGSTOP) within the context."""
        self._child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after three seconds."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(3)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)


class ProcessStack:
    """A temporary folder and the processes that log there; leaving the context stops them in reverse order."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path()

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="epp-bench-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> MeasuredProcess:
        """Starts a process. Raises BenchError if the program does not exist."""
        try:
            process = MeasuredProcess(name, command, self.folder / f"{name}.log", environment or {})
        except OSError as error:
            raise BenchError(f"{name} cannot be started: {error}") from error
        self._stack.callback(process.stop)
        return process


class NeighbourCpu:
    """CPU that other processes use during a measurement: with busy neighbours the results are unreliable."""

    def __init__(self, ours: Sequence[MeasuredProcess]) -> None:
        self._measured = ours
        self._started = time.monotonic()
        self._before = self._cpu_seconds()

    def average_cores(self) -> float:
        """Average number of cores used by other processes since this object was created."""
        return max(0.0, (self._cpu_seconds() - self._before) / (time.monotonic() - self._started))

    def _cpu_seconds(self) -> float:
        user, nice, system, *_ = map(int, Path("/proc/stat").read_text("ascii").split(None, 4)[1:4])
        times = os.times()
        children = times.children_user + times.children_system + times.user + times.system
        return (
            (user + nice + system) / CLOCK_TICKS - children - sum(process.cpu_seconds() for process in self._measured)
        )


def find_free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
