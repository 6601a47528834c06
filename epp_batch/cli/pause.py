"""`epp-batch pause`: takes what waits out of its queue."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient

HELP = "let a run's Jobs wait until `epp-batch resume`; what runs goes on unless --now is given"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--now", action="store_true", help="stop what runs, too; it goes on where it was after resume")
    parser.add_argument(
        "--queue",
        metavar="NAME",
        help="hold this LocalQueue instead, for all who use it (needs the right to change LocalQueues)",
    )


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _pause_run(args, client))


async def _pause_run(args: argparse.Namespace, client: ApiClient) -> int:
    from epp.clock import SystemClock
    from epp_batch.controller import control, run_status
    from epp_batch.controller.job_writer import set_queue_stop_policy, set_workload_active
    from epp_batch.controller.unit_status import derive_unit_status
    from epp_batch.progress_view import words

    kueue = await client.discover_kueue()
    target = run_target.resolve_target(args, client)
    if args.queue is not None:
        await set_queue_stop_policy(client, kueue, target.namespace, args.queue, "HoldAndDrain" if args.now else "Hold")
        print(f"LocalQueue {target.namespace}/{args.queue} is on hold")
        return 0
    if target.folder is not None:
        control.write_control(target.folder, control.RunControl(state="paused", at=SystemClock().wall()))
    phases = ("queued", "reserved", "admitted", "running") if args.now else ("queued",)
    facts = await run_status.list_run_objects(client, kueue, target.namespace, target.name)
    held = [
        one.workload for one in facts.values() if one.workload is not None and derive_unit_status(one).phase in phases
    ]
    for workload in held:
        await set_workload_active(client, kueue, target.namespace, workload.metadata.name)
    going = sum(derive_unit_status(one).phase in ("reserved", "admitted", "running") for one in facts.values())
    print(
        f"{target.name}: {words.format_job_count(len(held))} paused"
        + ("" if args.now else f", {going} go on to their end")
    )
    return 0
