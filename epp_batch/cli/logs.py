"""`epp-batch logs`: logs of workers."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

from epp_batch.cli.lib import run_target
from epp_batch.cli.lib.flag_values import parse_positive_int
from epp_batch.controller.logs import stream_unit_log
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.unit_status import derive_unit_status
from epp_batch.errors import InputError
from epp_batch.kube.client import ApiClient

MAX_STREAMS = 32
"""Logs that are streamed at once: each is a connection to the API server and to a kubelet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--of", metavar="NAME", help="output name, source or Job (default: all that are running)")
    parser.add_argument("--follow", "-f", action="store_true", help="stream until the Job has ended, over preemptions")
    parser.add_argument("--tail", type=parse_positive_int, metavar="N", help="the last N lines only")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _stream_logs(args, client))


async def _stream_logs(args: argparse.Namespace, client: ApiClient) -> int:
    target = run_target.resolve_target(args, client)
    units = await _select_units(args, client, target)
    if len(units) > MAX_STREAMS:
        advice = "choose another one with --of"
        print(f"epp-batch logs: {MAX_STREAMS} of {len(units)} running workers are shown; {advice}", file=sys.stderr)
    streams = [
        stream_unit_log(
            client,
            target.namespace,
            unit,
            _line_printer(name if len(units) > 1 else ""),
            follow=args.follow,
            tail=args.tail,
        )
        for unit, name in list(units.items())[:MAX_STREAMS]
    ]
    await asyncio.gather(*streams)
    return 0


async def _select_units(args: argparse.Namespace, client: ApiClient, target: run_target.RunTarget) -> dict[str, str]:
    """The unit of --of, else all that are running; each with the name that its lines begin with."""
    if args.of is not None:
        return {_find_unit(args.of, target): args.of}
    names = {unit.name: unit.tasks[0].stem for unit in target.run.units} if target.run is not None else {}
    objects = await list_run_objects(client, await client.discover_kueue(), target.namespace, target.name)
    running = [name for name, unit in objects.items() if derive_unit_status(unit).phase == "running"]
    if not running:
        raise InputError(f"{target.name}: no worker is running", remedy="name a recording with --of")
    return {name: names.get(name, name) for name in sorted(running)}


def _find_unit(name: str, target: run_target.RunTarget) -> str:
    """The unit with this Job name, source or stem; the name itself, as a Job's, if the run's file is not here."""
    if target.run is None:
        return name
    for unit in target.run.units:
        aliases = {unit.name}
        for task in unit.tasks:
            aliases |= {task.recording.source, *task.recording.stems}
        if name in aliases:
            return unit.name
    raise InputError(
        f"{target.name}: no recording {name!r}", remedy="give an output name as in `epp-batch status --units`"
    )


def _line_printer(name: str) -> Callable[[str], None]:
    prefix = f"{name}: " if name else ""
    return lambda line: print(prefix + line, flush=True)
