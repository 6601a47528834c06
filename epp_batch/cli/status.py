"""`epp-batch status`: the status of a run at this moment."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from epp.clock import SystemClock
from epp_batch.cli.lib import run_target
from epp_batch.controller.queue_positions import list_queue_positions
from epp_batch.controller.run_status import UnitRow, build_unit_rows, list_run_objects, read_run_status
from epp_batch.controller.unit_status import UnitObjects
from epp_batch.errors import ApiServerUnreachable
from epp_batch.kube.client import ApiClient
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import words
from epp_batch.spec import Run

CLUSTER_TIMEOUT_SECONDS = 30
"""For all requests together; after that the status is that of the folder."""
_HIDDEN_PHASES = ("succeeded", "absent")
"""Not shown by --units if only the run's name is known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--units", action="store_true", help="one line per unfinished unit")


def run(args: argparse.Namespace) -> int:
    """0 if no recording has failed so far, else 1."""
    local = run_target.find_local_run(args)
    if local is not None and local[0].cluster is None:
        return _print_status(args, *local, None)
    return run_target.run_on_cluster(args, lambda client: _show_status(args, client))


async def _show_status(args: argparse.Namespace, client: ApiClient) -> int:
    target = run_target.resolve_target(args, client)
    try:
        async with asyncio.timeout(CLUSTER_TIMEOUT_SECONDS):
            kueue = await client.discover_kueue()
            objects = await list_run_objects(client, kueue, target.namespace, target.name)
            positions = await list_queue_positions(client, kueue, target.namespace, objects.values())
    except (ApiServerUnreachable, TimeoutError) as error:
        cause = str(error) or f"{client.server} has not answered within {CLUSTER_TIMEOUT_SECONDS:g} s"
        if target.run is None or target.folder is None:
            raise ApiServerUnreachable(cause) from error
        print(f"epp-batch status: {cause}; this is from the folder alone", file=sys.stderr)
        return _print_status(args, target.run, target.folder, None)
    if target.run is None or target.folder is None:
        return _print_job_status(args, target.name, build_unit_rows(None, objects, positions=positions))
    return _print_status(args, target.run, target.folder, objects, positions)


def _print_status(
    args: argparse.Namespace,
    run: Run,
    folder: OutputFolder,
    objects: dict[str, UnitObjects] | None,
    positions: Mapping[str, int] = MappingProxyType({}),
) -> int:
    status, tracker = read_run_status(run, folder, objects, SystemClock().wall())
    rows = build_unit_rows(run, objects, tracker, positions) if objects is not None else []
    first_position = min((row.position for row in rows if row.position is not None), default=None)
    status = msgspec.structs.replace(status, position=first_position)
    failures = list(tracker.failed.values())
    if args.json:
        print(msgspec.json.encode({"state": status, "units": rows, "failures": failures}).decode())
        return 1 if failures else 0
    print(f"{run.name}: {words.format_status(status)}")
    for trouble in status.troubles:
        print(f"  {trouble}")
    for failure in failures:
        print(f"  {words.format_failure(failure)}")
    if args.units:
        _print_units(row for row in rows if row.stems)
    return 1 if failures else 0


def _print_job_status(args: argparse.Namespace, name: str, rows: list[UnitRow]) -> int:
    """Status of a run whose folder is on another machine: its Jobs."""
    phases = Counter(row.phase for row in rows)
    if args.json:
        print(msgspec.json.encode({"run": name, "phases": phases, "units": rows}).decode())
    else:
        print(f"{name}: " + (", ".join(f"{count} {phase}" for phase, count in phases.items()) or "no Jobs"))
        if args.units:
            _print_units(row for row in rows if row.phase not in _HIDDEN_PHASES)
    return 1 if phases["failed"] or phases["deactivated"] else 0


def _print_units(rows: Iterable[UnitRow]) -> None:
    for row in rows:
        names = ", ".join(row.stems) or row.unit
        place = f" on {row.place}" if row.place else ""
        position = f", number {row.position} in its queue" if row.position is not None else ""
        reason = ": ".join(filter(None, (row.reason, row.message)))
        print(f"  {names}: {row.phase}{place}{position}" + (f" ({reason})" if reason else ""))
