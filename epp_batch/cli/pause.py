"""`epp-batch pause`: takes what waits out of its queue."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import Client

HELP = "let a run's Jobs wait until `epp-batch resume`; what runs goes on unless --now is given"


def arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run(parser)
    parser.add_argument("--now", action="store_true", help="stop what runs, too; it goes on where it was after resume")
    parser.add_argument(
        "--queue",
        metavar="NAME",
        help="hold this LocalQueue instead, for all who use it (needs the right to change LocalQueues)",
    )


def run(args: argparse.Namespace) -> int:
    return run_target.on_cluster(args, lambda client: _pause(args, client))


async def _pause(args: argparse.Namespace, client: Client) -> int:
    from epp.clock import SystemClock
    from epp_batch.controller import control, run_status
    from epp_batch.controller.job_writer import hold, stop_queue
    from epp_batch.controller.unit_status import state
    from epp_batch.progress_view import words

    kueue = await client.kueue()
    target = run_target.target(args, client)
    if args.queue is not None:
        await stop_queue(client, kueue, target.namespace, args.queue, "HoldAndDrain" if args.now else "Hold")
        print(f"LocalQueue {target.namespace}/{args.queue} is on hold")
        return 0
    if target.folder is not None:
        control.write(target.folder, control.Control(state="paused", at=SystemClock().wall()))
    phases = ("queued", "reserved", "admitted", "running") if args.now else ("queued",)
    facts = await run_status.facts(client, kueue, target.namespace, target.name)
    held = [one.workload for one in facts.values() if one.workload is not None and state(one).phase in phases]
    for workload in held:
        await hold(client, kueue, target.namespace, workload.metadata.name)
    going = sum(state(one).phase in ("reserved", "admitted", "running") for one in facts.values())
    print(f"{target.name}: {words.jobs(len(held))} paused" + ("" if args.now else f", {going} go on to their end"))
    return 0
