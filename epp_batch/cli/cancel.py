"""`epp-batch cancel`: ends what is not through."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import ApiClient
    from epp_batch.kube.objects import Job
    from epp_batch.output_folder import OutputFolder
    from epp_batch.spec import Run

HELP = "delete the Jobs of a run that are not through; transcripts stay, finished and partial ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--all", action="store_true", help="delete Jobs that have ended, too")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _cancel_run(args, client))


async def _cancel_run(args: argparse.Namespace, client: ApiClient) -> int:
    from epp.clock import SystemClock
    from epp_batch.controller import control, run_status
    from epp_batch.controller.unit_status import derive_unit_status
    from epp_batch.progress_view import words

    target = run_target.resolve_target(args, client)
    clock = SystemClock()
    if target.folder is not None:  # first: a driver that lives must not make them again
        control.write_control(target.folder, control.RunControl(state="cancelled", at=clock.wall()))
    facts = await run_status.list_run_objects(client, await client.discover_kueue(), target.namespace, target.name)
    jobs = [one.job for one in facts.values() if one.job is not None and (args.all or not one.job.is_finished)]
    running = sum(derive_unit_status(one).phase == "running" for one in facts.values())
    await _delete_jobs(client, target.namespace, jobs)
    print(f"{target.name}: {words.format_job_count(len(jobs))} deleted, {running} of them were running")
    if target.folder is not None and target.run is not None:
        _record_cancelled(target.folder, [job.metadata.name for job in jobs if not job.is_finished], clock.wall())
        print(_describe_kept(target.run, target.folder))
    return 0


async def _delete_jobs(client: ApiClient, namespace: str, jobs: Iterable[Job]) -> None:
    """A few at once; pods and Workloads go with their Job."""
    from epp_batch.kube.resources import JOBS

    slots = asyncio.Semaphore(16)

    async def one(job: Job) -> None:
        async with slots:
            await client.delete(JOBS.path(namespace, job.metadata.name), uid=job.metadata.uid)

    await asyncio.gather(*map(one, jobs))


def _record_cancelled(folder: OutputFolder, units: Iterable[str], now: float) -> None:
    """Unless a driver lives, which sees it happen and tells it."""
    from epp_batch.controller import control
    from epp_batch.timeline import Journal, TimelineEvent

    with control.lock_folder(folder) as alone:
        if alone:
            journal = Journal(folder.events_file)
            for unit in units:
                journal.append(TimelineEvent(at=now, unit=unit, kind="cancelled"))
            journal.close()


def _describe_kept(run: Run, folder: OutputFolder) -> str:
    done = sum(folder.find_finished_result(task, run.options) is not None for task in run.list_tasks())
    partial = sum(folder.path(task.stem, "partial.jsonl").exists() for task in run.list_tasks())
    kept = f"kept in {folder.root}: {done} of {len(run.list_tasks())} transcripts"
    return kept + (f", {partial} partial ones that another submit goes on from" if partial else "")
