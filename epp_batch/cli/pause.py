"""`epp-batch pause`: deactivates the queued Workloads of a run, or holds a LocalQueue."""

from __future__ import annotations

import argparse

from epp.clock import SystemClock
from epp_batch.cli.lib import run_target
from epp_batch.controller import control
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.unit_status import derive_unit_status
from epp_batch.kube.client import ApiClient
from epp_batch.progress_view.words import format_job_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument(
        "--now", action="store_true", help="stop running Jobs, too; after resume they continue where they were"
    )
    parser.add_argument(
        "--queue",
        metavar="NAME",
        help="hold this LocalQueue instead, for all its users (needs the right to patch LocalQueues)",
    )


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _pause_run(args, client))


async def _pause_run(args: argparse.Namespace, client: ApiClient) -> int:
    kueue = await client.discover_kueue()
    target = run_target.resolve_target(args, client)
    writer = JobWriter(client, target.namespace)
    if args.queue is not None:
        await writer.set_queue_stop_policy(kueue, args.queue, "HoldAndDrain" if args.now else "Hold")
        print(f"LocalQueue {target.namespace}/{args.queue} is on hold")
        return 0
    if target.folder is not None:
        control.write_control(target.folder, control.RunControl(state="paused", at=SystemClock().wall()))
    paused_phases = ("queued", "reserved", "admitted", "running") if args.now else ("queued",)
    objects = await list_run_objects(client, kueue, target.namespace, target.name)
    phases = {name: derive_unit_status(unit).phase for name, unit in objects.items()}
    paused = [
        unit.workload.metadata.name
        for name, unit in objects.items()
        if unit.workload is not None and phases[name] in paused_phases
    ]
    for workload in paused:
        await writer.set_workload_active(kueue, workload, active=False)
    continuing = sum(phase in ("reserved", "admitted", "running") for phase in phases.values())
    rest = "" if args.now else f", {continuing} run to their end"
    print(f"{target.name}: {format_job_count(len(paused))} paused{rest}")
    return 0
