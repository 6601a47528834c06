"""`epp-batch status`: where a run stands, once."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target
from epp_batch.errors import Unreachable

if TYPE_CHECKING:
    from epp_batch.controller.run_status import Row
    from epp_batch.controller.unit_status import Facts
    from epp_batch.kube.client import Client
    from epp_batch.output_folder import Folder
    from epp_batch.spec import Run

HELP = "where a run stands, and why it does not go on; works without the cluster, from the folder"
_QUIET = ("succeeded", "absent")


def arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--units", action="store_true", help="one line for each unit that is not through")


def run(args: argparse.Namespace) -> int:
    """0 if nothing has failed (so far), else 1."""
    found = run_target.known(args)
    if found is not None and found[0].cluster is None:
        return _tell(args, *found, None)
    return run_target.on_cluster(args, lambda client: _status(args, client))


async def _status(args: argparse.Namespace, client: Client) -> int:
    from epp_batch.controller import run_status

    target = run_target.target(args, client)
    try:
        async with asyncio.timeout(30):
            kueue = await client.kueue()
            facts = await run_status.facts(client, kueue, target.namespace, target.name)
            places = await run_status.places(client, kueue, target.namespace, facts.values())
    except (Unreachable, TimeoutError) as error:
        if target.run is None or target.folder is None:
            raise
        print(f"epp-batch status: {error}; this is from the folder alone", file=sys.stderr)
        return _tell(args, target.run, target.folder, None)
    if target.run is None or target.folder is None:
        return _tell_jobs(args, target.name, run_status.rows(None, facts, places=places))
    return _tell(args, target.run, target.folder, facts, places)


def _tell(
    args: argparse.Namespace,
    run: Run,
    folder: Folder,
    facts: dict[str, Facts] | None,
    places: Mapping[str, int] = MappingProxyType({}),
) -> int:
    import msgspec

    from epp.clock import SystemClock
    from epp_batch.controller import run_status
    from epp_batch.progress_view import words

    state, books = run_status.standing(run, folder, facts, SystemClock().wall())
    rows = run_status.rows(run, facts, books, places) if facts is not None else []
    waiting = [row.position for row in rows if row.position is not None]
    state = msgspec.structs.replace(state, position=min(waiting, default=None))
    failures = list(books.failed.values())
    if args.json:
        print(msgspec.json.encode({"state": state, "units": rows, "failures": failures}).decode())
        return 1 if failures else 0
    print(f"{run.name}: {words.summary(state)}")
    for trouble in state.troubles:
        print(f"  {trouble}")
    for failure in failures:
        print(f"  {words.line(failure)}")
    if args.units:
        _list(row for row in rows if row.stems)
    return 1 if failures else 0


def _tell_jobs(args: argparse.Namespace, name: str, rows: list[Row]) -> int:
    """A run whose folder is elsewhere: its Jobs."""
    from collections import Counter

    import msgspec

    phases = Counter(row.phase for row in rows)
    if args.json:
        print(msgspec.json.encode({"run": name, "phases": phases, "units": rows}).decode())
    else:
        print(f"{name}: " + (", ".join(f"{count} {phase}" for phase, count in phases.items()) or "no Jobs"))
        if args.units:
            _list(row for row in rows if row.phase not in _QUIET)
    return 1 if phases["failed"] or phases["deactivated"] else 0


def _list(rows: Iterable[Row]) -> None:
    for row in rows:
        names = ", ".join(row.stems) or row.unit
        place = f" on {row.place}" if row.place else ""
        why = ": ".join(filter(None, (row.reason, row.message)))
        number = f", number {row.position} in its queue" if row.position is not None else ""
        print(f"  {names}: {row.phase}{place}{number}" + (f" ({why})" if why else ""))
