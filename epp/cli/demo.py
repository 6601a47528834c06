"""`epp demo`: compares round robin with prefix-aware routing on one workload; takes half a minute on any machine."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from epp.clock import SystemClock
from epp.config import presets
from epp.gateway.gateway import Gateway
from epp.gateway.programs import GatewaySettings
from epp.sim import demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `epp demo`."""
    parser.add_argument("--seed", type=int, default=0, help="seed of the workload")
    parser.add_argument("--servers", type=int, default=demo.SERVERS, help="number of simulated model servers")
    parser.add_argument("--config-text", default="", help="compare this configuration or preset instead of the default")


def run(arguments: argparse.Namespace) -> int:
    """Sends the workload through Envoy alone, then through Envoy with the picker; prints and compares latencies."""
    runs = asyncio.run(_run_comparison(arguments))
    return 0 if all(each.successful for each in runs) else 1


async def _run_comparison(arguments: argparse.Namespace) -> list[demo.PolicyRun]:
    servers = GatewaySettings(
        sim_servers=arguments.servers, sim_flags=demo.SIM_FLAGS, round_robin=True, port=0, metrics_port=0, admin_port=0
    )
    async with Gateway(servers) as plain:

        @asynccontextmanager
        async def start_gateway(name: str) -> AsyncIterator[str]:
            if name == demo.ROUND_ROBIN:
                yield plain.url
                return
            picked = GatewaySettings(
                endpoints=tuple(plain.endpoints), config_text=arguments.config_text, port=0, metrics_port=0
            )
            async with Gateway(picked) as gateway:
                yield gateway.url

        policy = comparison_label(arguments.config_text)
        return await demo.compare_policies(
            start_gateway, plain.endpoints, SystemClock(), print, seed=arguments.seed, policy=policy
        )


def comparison_label(config_text: str) -> str:
    """The label of the second run: the name of a preset, or a general one for a whole configuration."""
    if config_text in {"", presets.DEFAULT_PRESET}:
        return demo.DEFAULT_POLICY
    return config_text if config_text in presets.preset_names() else "your configuration"
