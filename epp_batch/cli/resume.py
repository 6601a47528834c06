"""`epp-batch resume`: puts what was paused back into its queue."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient

HELP = "let a paused run go on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--queue", metavar="NAME", help="let this LocalQueue go on instead")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _resume_run(args, client))


async def _resume_run(args: argparse.Namespace, client: ApiClient) -> int:
    from epp.clock import SystemClock
    from epp_batch.controller import control, run_status
    from epp_batch.controller.job_writer import set_queue_stop_policy, set_workload_active
    from epp_batch.kube.resources import PAUSED_ANNOTATION
    from epp_batch.progress_view import words

    kueue = await client.discover_kueue()
    target = run_target.resolve_target(args, client)
    if args.queue is not None:
        await set_queue_stop_policy(client, kueue, target.namespace, args.queue, "None")
        print(f"LocalQueue {target.namespace}/{args.queue} goes on")
        return 0
    if target.folder is not None:
        control.write_control(target.folder, control.RunControl(at=SystemClock().wall()))
    facts = await run_status.list_run_objects(client, kueue, target.namespace, target.name)
    paused = [
        one.workload.metadata.name
        for one in facts.values()
        if one.workload is not None and PAUSED_ANNOTATION in one.workload.metadata.annotations
    ]
    for name in paused:
        await set_workload_active(client, kueue, target.namespace, name, active=True)
    print(f"{target.name}: {words.format_job_count(len(paused))} go on")
    if target.run is not None and target.folder is not None:
        missing = len({unit.name for unit in target.run.units} - facts.keys())
        with control.lock_folder(target.folder) as alone:
            if alone and missing:
                print(f"{words.format_job_count(missing)} missing and nobody makes them: submit again")
    return 0
