"""The gateway of `epp up`: Envoy, the picker and simulated model servers as child processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from epp.address import join_host_port, split_host_port
from epp.clock import Clock, SystemClock
from epp.gateway.clusters import PICKER_CLUSTER
from epp.gateway.envoy_bootstrap import EnvoySettings, Json, build_bootstrap
from epp.gateway.net import GatewayError, bind_listening_socket, bind_socket, http_get, resolve_targets
from epp.gateway.programs import (
    LOOPBACK,
    GatewaySettings,
    build_envoy_program,
    build_picker_program,
    build_sim_program,
    configures_discovery,
)
from epp.gateway.supervisor import (
    PROBE_INTERVAL_SECONDS,
    START_TIMEOUT_SECONDS,
    ChildProcess,
    PrintLine,
    Supervisor,
)
from epp.tasks import Tasks

QUEUE_TIMEOUT_SECONDS = 5.0  # how long connections wait in the kernel's queue for a picker that is not ready
_LOOPBACK_FOR_WILDCARD = {"0.0.0.0": LOOPBACK, "::": "::1"}


class Gateway:
    """`async with Gateway(settings) as gateway:` serves at `gateway.url` until the end of the block.

    Owns the child processes, the reserved ports and the picker's listening socket; the latter outlives the picker, so
    that connections made during its restart wait in the kernel's queue.
    """

    def __init__(
        self, settings: GatewaySettings, *, clock: Clock | None = None, print_line: PrintLine = lambda _text: None
    ) -> None:
        self.settings = settings
        self.url = ""
        self.metrics_url = ""
        self.admin_url = ""
        self.endpoints: list[str] = []
        self.folder = Path(settings.folder)
        self._clock = clock or SystemClock()
        self._print_line = print_line
        self._ports: dict[str, int] = {}
        self._tasks = Tasks("up")
        self._picker_socket: socket.socket | None = None
        self._reserved_sockets: list[socket.socket] = []
        self.supervisor: Supervisor | None = None

    async def __aenter__(self) -> Self:
        """Starts everything. Raises GatewayError or ConfigError and then leaves nothing running."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def picker_pid(self) -> int:
        """Process id of the picker; 0 while it is not running."""
        child = self.supervisor.children.get("picker") if self.supervisor else None
        return child.pid if child else 0

    @property
    def readiness(self) -> dict[str, bool]:
        """Whether each child process is ready, by name."""
        children = self.supervisor.children if self.supervisor else {}
        return {name: child.ready for name, child in children.items()}

    def signal_picker(self, number: int = 9) -> int:
        """Sends the picker a signal; when it exits it is restarted. Returns the pid that received it."""
        assert self.supervisor is not None
        return self.supervisor.send_signal("picker", number)

    def kill_children(self) -> None:
        """Sends SIGKILL to all children, without the grace period of `close`."""
        for child in self.supervisor.children.values() if self.supervisor else ():
            child.send_signal(signal.SIGKILL)

    def plan_bootstrap(self) -> Json:
        """Envoy's bootstrap without starting anything. Raises GatewayError or ConfigError like the start."""
        self.endpoints = resolve_targets(list(self.settings.endpoints))
        try:
            self._reserve_ports()
        finally:
            self._release_ports()
        self._add_sim_endpoints()
        return self.build_bootstrap()

    async def wait_for_picker(self, other_than: int = 0, timeout_seconds: float = 30.0) -> None:
        """Waits for a ready picker with a pid other than `other_than`. Raises GatewayError after `timeout_seconds`."""
        assert self.supervisor is not None
        child = self.supervisor.children["picker"]
        deadline = self._clock.now() + timeout_seconds
        while not (child.ready and child.pid not in (0, other_than)):
            if self._clock.now() > deadline:
                raise GatewayError(
                    f"the picker is not ready after {timeout_seconds:.0f} s; last output:\n{child.tail_log()}"
                )
            await asyncio.sleep(0.02)

    async def fetch_model_name(self) -> str:
        """The first model in the first endpoint's /v1/models; empty if there is none."""
        for endpoint in self.endpoints[:1]:
            _, page = await http_get(*split_host_port(endpoint), "/v1/models")
            with contextlib.suppress(ValueError, LookupError, TypeError):
                return str(json.loads(page)["data"][0]["id"])
        return ""

    async def close(self) -> None:
        """Terminates all children; a temporary folder is deleted."""
        await self._tasks.close()
        if self.supervisor is not None:
            await self.supervisor.close()
        self._release_ports()
        if self._picker_socket is not None:
            self._picker_socket.close()
        if self.folder.name and not self.settings.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _start(self) -> None:
        settings = self.settings
        self.endpoints = resolve_targets(list(settings.endpoints))
        self._reserve_ports()
        if not sys.platform.startswith("linux"):
            # Elsewhere a port that another process has bound cannot be listened on.
            self._release_ports()
        if settings.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="epp-up-"))
        self.supervisor = supervisor = Supervisor(self.folder, self._clock, self._print_line)
        if ports := self._add_sim_endpoints():
            await supervisor.start(build_sim_program(ports, settings.sim_flags))
        if not settings.round_robin:
            await self._start_picker(supervisor)
        path = self.folder / "envoy.json"
        path.write_text(json.dumps(self.build_bootstrap(), indent=1))
        envoy = await supervisor.start(build_envoy_program(settings, path, self._ports["admin"]))
        if not settings.round_robin:
            await self._wait_until_picker_healthy(envoy)
        url_host = _LOOPBACK_FOR_WILDCARD.get(settings.host, settings.host)
        self.url = f"http://{join_host_port(url_host, self._ports['gateway'])}"
        self.admin_url = f"http://{join_host_port(LOOPBACK, self._ports['admin'])}"

    async def _start_picker(self, supervisor: Supervisor) -> None:
        """Starts the picker; on the native transport it inherits a listening socket that outlives it."""
        if self.settings.transport == "native":
            advice = "choose another with --grpc-port PORT"
            self._picker_socket = bind_listening_socket(LOOPBACK, self._ports["picker"], advice)
            self._picker_socket.setblocking(False)
        program = build_picker_program(self.settings, self._ports, self.endpoints, self._picker_socket)
        child = await supervisor.start(program)
        if self._picker_socket is not None:
            self._tasks.supervise("queue", partial(self._reject_queued_connections, child, self._picker_socket))

    async def _wait_until_picker_healthy(self, envoy: ChildProcess) -> None:
        """Waits for Envoy's first successful health check: before, a gateway that fails open bypasses the picker."""
        deadline = self._clock.now() + START_TIMEOUT_SECONDS
        query = f"/stats?filter=^cluster.{PICKER_CLUSTER}.membership_healthy$"
        while b": 1" not in (await http_get(LOOPBACK, self._ports["admin"], query))[1]:
            if self._clock.now() > deadline:
                raise GatewayError(f"Envoy cannot reach the picker; last output:\n{envoy.tail_log()}")
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    async def _reject_queued_connections(self, child: ChildProcess, listener: socket.socket) -> None:
        """Closes queued connections while the picker has not been ready for QUEUE_TIMEOUT_SECONDS."""
        last_ready = self._clock.now()
        while True:
            await asyncio.sleep(0.2)
            if child.ready:
                last_ready = self._clock.now()
            elif self._clock.now() - last_ready > QUEUE_TIMEOUT_SECONDS:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        listener.accept()[0].close()

    def _add_sim_endpoints(self) -> list[int]:
        """Appends the simulated model servers to `endpoints`; returns their ports."""
        ports = [self._ports[f"sim {index}"] for index in range(self.settings.sim_servers)]
        self.endpoints += [join_host_port(LOOPBACK, port) for port in ports]
        return ports

    def _reserve_ports(self) -> None:
        """Chooses and reserves every port before the first process is started."""
        settings = self.settings
        wanted = [
            ("gateway", settings.host, settings.port, "--port"),
            ("admin", LOOPBACK, settings.admin_port, "--admin-port"),
            *((f"sim {index}", LOOPBACK, 0, "") for index in range(settings.sim_servers)),
        ]
        if not settings.round_robin:
            wanted += [
                ("picker", LOOPBACK, settings.grpc_port, "--grpc-port"),
                ("health", LOOPBACK, settings.health_port, "--grpc-health-port"),
                ("metrics", LOOPBACK, settings.metrics_port, "--metrics-port"),
            ]
        for name, host, port, flag in wanted:
            sock = bind_socket(host, port, f"stop what listens there, or choose another with {flag} PORT")
            self._reserved_sockets.append(sock)
            self._ports[name] = int(sock.getsockname()[1])
        if not settings.round_robin:
            self.metrics_url = f"http://{LOOPBACK}:{self._ports['metrics']}"

    def _release_ports(self) -> None:
        while self._reserved_sockets:
            self._reserved_sockets.pop().close()

    def build_bootstrap(self) -> Json:
        """Envoy's bootstrap with the reserved ports."""
        settings = self.settings
        discovered = bool(settings.dns) or configures_discovery(settings.config_file, settings.config_text)
        shape = settings.shape or ("original_dst" if discovered else "override_host")
        can_fail_open = shape == "override_host" and not settings.round_robin and settings.body_mode != "STREAMED"
        return build_bootstrap(
            EnvoySettings(
                host=settings.host,
                port=self._ports["gateway"],
                admin_port=self._ports["admin"],
                picker_address="" if settings.round_robin else join_host_port(LOOPBACK, self._ports["picker"]),
                picker_tls=settings.picker_tls,
                endpoints=tuple(self.endpoints),
                shape=shape,
                fail_open=can_fail_open if settings.fail_open is None else settings.fail_open,
                completion=settings.completion,
                observe_responses=settings.observe_responses > 0,
                body_mode=settings.body_mode,
                timeout=settings.timeout,
                idle_timeout=settings.idle_timeout,
                retries=settings.retries,
                retry_statuses=settings.retry_statuses,
                subset_header=settings.subset_header,
                trust_request_id=settings.trust_request_id,
            )
        )
