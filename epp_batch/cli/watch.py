"""`epp-batch watch`: follows a run to its end."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient

HELP = "follow a run to its end; Jobs that are missing are made by submit only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--json", action="store_true", help="events and states as JSON lines")


def run(args: argparse.Namespace) -> int:
    """0 when all recordings have their transcripts, 1 when one failed or was cancelled, 130 after Ctrl-C."""
    try:
        return run_target.run_on_cluster(args, lambda client: _watch_run(args, client))
    except KeyboardInterrupt:
        print("The Jobs go on; `epp-batch cancel` ends them.", file=sys.stderr)
        return 130


async def _watch_run(args: argparse.Namespace, client: ApiClient) -> int:
    from epp.clock import SystemClock
    from epp.tasks import Tasks
    from epp_batch import progress_view
    from epp_batch.controller.drive import drive_run
    from epp_batch.errors import InputError

    target = run_target.resolve_target(args, client)
    if target.run is None or target.folder is None:
        raise InputError("watch needs the output folder", remedy="use `epp-batch status --run` to look from elsewhere")
    tasks, shown = Tasks("watch"), progress_view.choose_view(sys.stdout, args.json, run=target.run)
    try:
        outcome = await drive_run(
            target.run,
            target.folder,
            connection=client,
            clock=SystemClock(),
            tasks=tasks,
            view=shown,
            create=False,
        )
    finally:
        shown.close()
        await tasks.close()
    return outcome.exit_code
