"""Runs the node agent as a process; SIGTERM stops it and removes its pods and nodes."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
from pathlib import Path

from epp.clock import SystemClock
from tests.kube.cluster.mig import A100_40, H100_80
from tests.kube.cluster.node_agent import AgentNode, NodeAgent

_GPUS = {"a100": A100_40, "h100": H100_80}


def main() -> None:
    """Parses the flags and runs the agent until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.kube.cluster.agent_command", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--pki", type=Path, required=True, help="folder with tls.crt and tls.key")
    parser.add_argument("--folder", type=Path, required=True, help="for the pods' files and logs")
    parser.add_argument("--node", action="append", required=True, help="name; one agent may have several")
    parser.add_argument("--device", action="append", default=[], metavar="RESOURCE=COUNT", help="of each node")
    parser.add_argument("--gpu", action="append", default=[], choices=_GPUS, help="by DRA, with MIG; of each node")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--entrypoint", action="append", default=[], metavar="IMAGE=COMMAND LINE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for every process")
    parser.add_argument("--network", default="127.100", help="first half of the pods' addresses")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    devices = {name: int(count) for name, count in _parse_pairs(options.device).items()}
    gpus = tuple(_GPUS[name] for name in options.gpu)
    agent = NodeAgent(
        options.kubeconfig,
        options.pki,
        options.folder,
        [AgentNode(name, devices, _parse_pairs(options.label), gpus) for name in options.node],
        clock=SystemClock(),
        entrypoints={image: shlex.split(line) for image, line in _parse_pairs(options.entrypoint).items()},
        environment=_parse_pairs(options.env),
        network=options.network,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with agent:
        await stopped.wait()


def _parse_pairs(items: list[str]) -> dict[str, str]:
    return dict(item.split("=", 1) for item in items)


if __name__ == "__main__":
    main()
