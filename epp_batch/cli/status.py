"""`epp-batch status`: where a run stands, once."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target
from epp_batch.errors import ApiServerUnreachable

if TYPE_CHECKING:
    from epp_batch.controller.run_status import UnitRow
    from epp_batch.controller.unit_status import UnitObjects
    from epp_batch.kube.client import ApiClient
    from epp_batch.output_folder import OutputFolder
    from epp_batch.spec import Run

HELP = "where a run stands, and why it does not go on; works without the cluster, from the folder"
_HIDDEN_PHASES = ("succeeded", "absent")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--units", action="store_true", help="one line for each unit that is not through")


def run(args: argparse.Namespace) -> int:
    """0 if nothing has failed (so far), else 1."""
    found = run_target.find_local_run(args)
    if found is not None and found[0].cluster is None:
        return _print_status(args, *found, None)
    return run_target.run_on_cluster(args, lambda client: _show_status(args, client))


async def _show_status(args: argparse.Namespace, client: ApiClient) -> int:
    from epp_batch.controller import run_status

    target = run_target.resolve_target(args, client)
    try:
        async with asyncio.timeout(30):
            kueue = await client.discover_kueue()
            facts = await run_status.list_run_objects(client, kueue, target.namespace, target.name)
            places = await run_status.list_queue_positions(client, kueue, target.namespace, facts.values())
    except (ApiServerUnreachable, TimeoutError) as error:
        if target.run is None or target.folder is None:
            raise
        print(f"epp-batch status: {error}; this is from the folder alone", file=sys.stderr)
        return _print_status(args, target.run, target.folder, None)
    if target.run is None or target.folder is None:
        return _print_job_status(args, target.name, run_status.build_unit_rows(None, facts, places=places))
    return _print_status(args, target.run, target.folder, facts, places)


def _print_status(
    args: argparse.Namespace,
    run: Run,
    folder: OutputFolder,
    facts: dict[str, UnitObjects] | None,
    places: Mapping[str, int] = MappingProxyType({}),
) -> int:
    import msgspec

    from epp.clock import SystemClock
    from epp_batch.controller import run_status
    from epp_batch.progress_view import words

    state, books = run_status.read_run_status(run, folder, facts, SystemClock().wall())
    rows = run_status.build_unit_rows(run, facts, books, places) if facts is not None else []
    waiting = [row.position for row in rows if row.position is not None]
    state = msgspec.structs.replace(state, position=min(waiting, default=None))
    failures = list(books.failed.values())
    if args.json:
        print(msgspec.json.encode({"state": state, "units": rows, "failures": failures}).decode())
        return 1 if failures else 0
    print(f"{run.name}: {words.format_status(state)}")
    for trouble in state.troubles:
        print(f"  {trouble}")
    for failure in failures:
        print(f"  {words.format_failure(failure)}")
    if args.units:
        _print_units(row for row in rows if row.stems)
    return 1 if failures else 0


def _print_job_status(args: argparse.Namespace, name: str, rows: list[UnitRow]) -> int:
    """A run whose folder is elsewhere: its Jobs."""
    from collections import Counter

    import msgspec

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
        why = ": ".join(filter(None, (row.reason, row.message)))
        number = f", number {row.position} in its queue" if row.position is not None else ""
        print(f"  {names}: {row.phase}{place}{number}" + (f" ({why})" if why else ""))
