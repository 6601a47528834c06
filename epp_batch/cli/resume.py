"""`epp-batch resume`: activates the Workloads that `pause` deactivated, or releases a LocalQueue."""

from __future__ import annotations

import argparse

from epp.clock import SystemClock
from epp_batch.cli.lib import run_target
from epp_batch.controller import control
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.unit_status import PAUSED_ANNOTATION
from epp_batch.kube.client import ApiClient
from epp_batch.progress_view.words import format_job_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--queue", metavar="NAME", help="release this LocalQueue instead")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _resume_run(args, client))


async def _resume_run(args: argparse.Namespace, client: ApiClient) -> int:
    kueue = await client.discover_kueue()
    target = run_target.resolve_target(args, client)
    writer = JobWriter(client, target.namespace)
    if args.queue is not None:
        await writer.set_queue_stop_policy(kueue, args.queue, "None")
        print(f"LocalQueue {target.namespace}/{args.queue} is released")
        return 0
    if target.folder is not None:
        control.write_control(target.folder, control.RunControl(at=SystemClock().wall()))
    objects = await list_run_objects(client, kueue, target.namespace, target.name)
    paused = [
        unit.workload.metadata.name
        for unit in objects.values()
        if unit.workload is not None and PAUSED_ANNOTATION in unit.workload.metadata.annotations
    ]
    for workload in paused:
        await writer.set_workload_active(kueue, workload, active=True)
    print(f"{target.name}: {format_job_count(len(paused))} resumed")
    if target.run is not None and target.folder is not None:
        missing = len({unit.name for unit in target.run.units} - objects.keys())
        with control.lock_folder(target.folder) as alone:
            if alone and missing:
                print(f"{format_job_count(missing)} missing, and no driver creates them: submit again")
    return 0
