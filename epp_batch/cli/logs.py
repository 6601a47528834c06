"""`epp-batch logs`: what workers say."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target, source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.kube.client import Client

HELP = "the log of one recording's worker, or of all that run"
AT_ONCE = 32


def arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run(parser)
    parser.add_argument("--of", metavar="NAME", help="output name, source or Job (default: all that run)")
    parser.add_argument(
        "--follow", "-f", action="store_true", help="go on until the Job has ended, through preemptions"
    )
    parser.add_argument("--tail", type=source_flags.positive, metavar="N", help="the last N lines only")


def run(args: argparse.Namespace) -> int:
    return run_target.on_cluster(args, lambda client: _logs(args, client))


async def _logs(args: argparse.Namespace, client: Client) -> int:
    from epp_batch.controller import logs

    target = run_target.target(args, client)
    units = await _chosen(args, client, target)
    prefixed = len(units) > 1
    shows = [
        logs.show(
            client,
            target.namespace,
            unit,
            _speaker(name if prefixed else ""),
            follow=args.follow,
            tail=args.tail,
        )
        for unit, name in list(units.items())[:AT_ONCE]
    ]
    await asyncio.gather(*shows)
    return 0


async def _chosen(args: argparse.Namespace, client: Client, target: run_target.Target) -> dict[str, str]:
    """Units to show, each with the name for its lines."""
    from epp_batch.controller import run_status
    from epp_batch.controller.unit_status import state

    names = {unit.name: unit.tasks[0].stem for unit in target.run.units} if target.run is not None else {}
    if args.of is not None:
        return {_unit(args.of, target): args.of}
    facts = await run_status.facts(client, await client.kueue(), target.namespace, target.name)
    running = [name for name, one in facts.items() if state(one).phase == "running"]
    if not running:
        raise InputError(f"{target.name}: nothing runs now", remedy="name a recording with --of")
    return {name: names.get(name, name) for name in sorted(running)}


def _unit(name: str, target: run_target.Target) -> str:
    """The unit that a stem, source or Job name means."""
    for unit in target.run.units if target.run is not None else ():
        called = {unit.name}
        for task in unit.tasks:
            called |= {task.recording.source, *task.recording.stems}
        if name in called:
            return unit.name
    if target.run is None:
        return name
    raise InputError(
        f"{target.name}: no recording {name!r}", remedy="give an output name as `epp-batch status --units`"
    )


def _speaker(name: str) -> Callable[[str], None]:
    prefix = f"{name}: " if name else ""
    return lambda line: print(prefix + line, flush=True)
