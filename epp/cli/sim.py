"""`epp sim`: runs simulated model servers until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from epp.clock import SystemClock
from epp.errors import ConfigError, Problem
from epp.sim.engine import SimEngineConfig
from epp.sim.fleet import SimFleet
from epp.sim.hardware import HARDWARE_PRESETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `epp sim`. Those with names of vLLM's flags have the same meaning as there."""
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add(
        "--port",
        type=int,
        nargs="+",
        default=[8100],
        metavar="PORT",
        help="the first of consecutive ports, or all ports; 0: any free one",
    )
    add("--count", type=int, help="number of servers (default: as many as ports)")
    add("--model", default="sim", help="name of the served model")
    add("--lora", action="append", default=[], metavar="NAME", help="LoRA adapter served beside the model (repeatable)")
    add("--max-loras", type=int, default=1, help="LoRA adapters in one batch")
    add("--hardware", choices=sorted(HARDWARE_PRESETS), default="h100-8b")
    add("--time-scale", type=float, default=1.0, help="speed relative to the hardware; 2: twice as fast")
    add("--block-size", type=int, default=16, help="tokens in a KV cache block")
    add("--num-gpu-blocks", type=int, default=0, help="KV cache blocks (default: as many as fit)")
    add("--max-num-seqs", type=int, default=256)
    add("--max-num-batched-tokens", type=int, default=8192)
    add("--max-model-len", type=int, default=0, help="context length in tokens (default: what fits, at most 131072)")
    add(
        "--max-num-queued-reqs",
        type=int,
        default=0,
        help="waiting requests beyond which the server answers 503 (default: no limit)",
    )
    add("--no-enable-prefix-caching", dest="enable_prefix_caching", action="store_false")
    add("--seed", type=int, default=0)


def build_engine_config(args: argparse.Namespace) -> SimEngineConfig:
    """The configuration of each simulated engine. ConfigError if it contradicts itself."""
    return SimEngineConfig(
        hardware=HARDWARE_PRESETS[args.hardware],
        block_size=args.block_size,
        num_gpu_blocks=args.num_gpu_blocks,
        max_num_seqs=args.max_num_seqs,
        max_num_batched_tokens=args.max_num_batched_tokens,
        max_model_len=args.max_model_len,
        max_num_queued_reqs=args.max_num_queued_reqs,
        max_loras=args.max_loras,
        time_scale=args.time_scale,
        enable_prefix_caching=args.enable_prefix_caching,
    )


def assign_ports(first: list[int], count: int | None) -> list[int]:
    """One port for each of `count` servers, from all ports or the first of them. ConfigError if they do not match."""
    if count is None or count == len(first):
        found = first
    elif len(first) > 1 or count < 1:
        raise ConfigError([Problem("--count", f"{count} servers, but {len(first)} ports")])
    else:
        found = [first[0] + index if first[0] else 0 for index in range(count)]
    if wrong := [port for port in found if not 0 <= port <= 65535]:
        raise ConfigError([Problem("--port", f"invalid port {wrong[0]}: expected 0-65535 (0: any free one)")])
    return found


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM. Prints the URL of each server once all are ready."""
    fleet = SimFleet(
        build_engine_config(args),
        SystemClock(),
        host=args.host,
        ports=assign_ports(args.port, args.count),
        model=args.model,
        adapters=tuple(args.lora),
        seed=args.seed,
    )
    try:
        uvloop.run(_serve_fleet(fleet))
    except OSError as error:
        print(f"epp sim: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve_fleet(fleet: SimFleet) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with fleet:
        for target in fleet.targets:
            print(f"http://{target}", flush=True)
        await stop.wait()
