"""`epp-batch cancel`: ends what is not through."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from epp_batch.cli.lib import run_target

if TYPE_CHECKING:
    from epp_batch.kube.client import Client
    from epp_batch.kube.objects import Job
    from epp_batch.output_folder import Folder
    from epp_batch.spec import Run

HELP = "delete the Jobs of a run that are not through; transcripts stay, finished and partial ones"


def arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run(parser)
    parser.add_argument("--all", action="store_true", help="delete Jobs that have ended, too")


def run(args: argparse.Namespace) -> int:
    return run_target.on_cluster(args, lambda client: _cancel(args, client))


async def _cancel(args: argparse.Namespace, client: Client) -> int:
    from epp.clock import SystemClock
    from epp_batch.controller import control, run_status
    from epp_batch.controller.unit_status import state
    from epp_batch.progress_view import words

    target = run_target.target(args, client)
    clock = SystemClock()
    if target.folder is not None:  # first: a driver that lives must not make them again
        control.write(target.folder, control.Control(state="cancelled", at=clock.wall()))
    facts = await run_status.facts(client, await client.kueue(), target.namespace, target.name)
    jobs = [one.job for one in facts.values() if one.job is not None and (args.all or not one.job.ended)]
    running = sum(state(one).phase == "running" for one in facts.values())
    await _delete(client, target.namespace, jobs)
    print(f"{target.name}: {words.jobs(len(jobs))} deleted, {running} of them were running")
    if target.folder is not None and target.run is not None:
        _tell_journal(target.folder, [job.metadata.name for job in jobs if not job.ended], clock.wall())
        print(_kept(target.run, target.folder))
    return 0


async def _delete(client: Client, namespace: str, jobs: Iterable[Job]) -> None:
    """A few at once; pods and Workloads go with their Job."""
    from epp_batch.kube.resources import JOBS

    slots = asyncio.Semaphore(16)

    async def one(job: Job) -> None:
        async with slots:
            await client.delete(JOBS.path(namespace, job.metadata.name), uid=job.metadata.uid)

    await asyncio.gather(*map(one, jobs))


def _tell_journal(folder: Folder, units: Iterable[str], now: float) -> None:
    """Unless a driver lives, which sees it happen and tells it."""
    from epp_batch.controller import control
    from epp_batch.timeline import Event, Journal

    with control.lock(folder) as alone:
        if alone:
            journal = Journal(folder.events_file)
            for unit in units:
                journal.write(Event(at=now, unit=unit, kind="cancelled"))
            journal.close()


def _kept(run: Run, folder: Folder) -> str:
    done = sum(folder.finished(task, run.options) is not None for task in run.tasks())
    partial = sum(folder.path(task.stem, "partial.jsonl").exists() for task in run.tasks())
    kept = f"kept in {folder.root}: {done} of {len(run.tasks())} transcripts"
    return kept + (f", {partial} partial ones that another submit goes on from" if partial else "")
