"""`epp-batch logs`: what workers say."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target, source_flags
from epp_batch.errors import InputError

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient

HELP = "the log of one recording's worker, or of all that run"
MAX_STREAMS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--of", metavar="NAME", help="output name, source or Job (default: all that run)")
    parser.add_argument(
        "--follow", "-f", action="store_true", help="go on until the Job has ended, through preemptions"
    )
    parser.add_argument("--tail", type=source_flags.parse_positive_int, metavar="N", help="the last N lines only")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _stream_logs(args, client))


async def _stream_logs(args: argparse.Namespace, client: ApiClient) -> int:
    from epp_batch.controller import logs

    target = run_target.resolve_target(args, client)
    units = await _select_units(args, client, target)
    prefixed = len(units) > 1
    shows = [
        logs.stream_unit_log(
            client,
            target.namespace,
            unit,
            _line_printer(name if prefixed else ""),
            follow=args.follow,
            tail=args.tail,
        )
        for unit, name in list(units.items())[:MAX_STREAMS]
    ]
    await asyncio.gather(*shows)
    return 0


async def _select_units(args: argparse.Namespace, client: ApiClient, target: run_target.RunTarget) -> dict[str, str]:
    """Units to show, each with the name for its lines."""
    from epp_batch.controller import run_status
    from epp_batch.controller.unit_status import derive_unit_status

    names = {unit.name: unit.tasks[0].stem for unit in target.run.units} if target.run is not None else {}
    if args.of is not None:
        return {_find_unit(args.of, target): args.of}
    facts = await run_status.list_run_objects(client, await client.discover_kueue(), target.namespace, target.name)
    running = [name for name, one in facts.items() if derive_unit_status(one).phase == "running"]
    if not running:
        raise InputError(f"{target.name}: nothing runs now", remedy="name a recording with --of")
    return {name: names.get(name, name) for name in sorted(running)}


def _find_unit(name: str, target: run_target.RunTarget) -> str:
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


def _line_printer(name: str) -> Callable[[str], None]:
    prefix = f"{name}: " if name else ""
    return lambda line: print(prefix + line, flush=True)
