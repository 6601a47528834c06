"""`epp-batch watch`: follows a run to its end without creating Jobs."""

from __future__ import annotations

import argparse
import sys

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.cli.lib import run_target
from epp_batch.controller.drive import drive_run
from epp_batch.errors import InputError
from epp_batch.kube.client import ApiClient
from epp_batch.progress_view import choose_view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--json", action="store_true", help="events and states as JSON lines")


def run(args: argparse.Namespace) -> int:
    """0 if all recordings have their transcripts, 1 if one failed or was cancelled, 130 after Ctrl-C."""
    try:
        return run_target.run_on_cluster(args, lambda client: _watch_run(args, client))
    except KeyboardInterrupt:
        print("The Jobs continue; `epp-batch cancel` deletes them.", file=sys.stderr)
        return 130


async def _watch_run(args: argparse.Namespace, client: ApiClient) -> int:
    target = run_target.resolve_target(args, client)
    if target.run is None or target.folder is None:
        raise InputError("watch needs the output folder", remedy="from another machine use `epp-batch status --run`")
    tasks, view = Tasks("watch"), choose_view(sys.stdout, args.json, run=target.run)
    try:
        outcome = await drive_run(
            target.run,
            target.folder,
            client=client,
            clock=SystemClock(),
            tasks=tasks,
            view=view,
            creates_jobs=False,
        )
    finally:
        view.close()
        await tasks.close()
    return outcome.exit_code
