"""`epp-batch cancel`: deletes the unfinished Jobs of a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from epp.clock import SystemClock
from epp_batch.cli.lib import run_target
from epp_batch.controller import control
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.run_status import list_run_objects
from epp_batch.controller.unit_status import derive_unit_status
from epp_batch.kube.client import ApiClient
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view.words import format_job_count
from epp_batch.spec import Run
from epp_batch.timeline import Journal, TimelineEvent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_target.add_run_flags(parser)
    parser.add_argument("--all", action="store_true", help="delete finished Jobs, too")


def run(args: argparse.Namespace) -> int:
    return run_target.run_on_cluster(args, lambda client: _cancel_run(args, client))


async def _cancel_run(args: argparse.Namespace, client: ApiClient) -> int:
    target = run_target.resolve_target(args, client)
    clock = SystemClock()
    if target.folder is not None:  # first of all, so that a living driver does not create the Jobs again
        control.write_control(target.folder, control.RunControl(state="cancelled", at=clock.wall()))
    objects = await list_run_objects(client, await client.discover_kueue(), target.namespace, target.name)
    jobs = [unit.job for unit in objects.values() if unit.job is not None and (args.all or not unit.job.is_finished)]
    running = sum(derive_unit_status(unit).phase == "running" for unit in objects.values())
    await JobWriter(client, target.namespace).delete_jobs(jobs)
    print(f"{target.name}: {format_job_count(len(jobs))} deleted, {running} of them were running")
    if target.folder is not None and target.run is not None:
        unfinished = [job.metadata.name for job in jobs if not job.is_finished]
        _record_cancelled(target.folder, unfinished, clock.wall())
        print(_describe_kept(target.run, target.folder))
    return 0


def _record_cancelled(folder: OutputFolder, units: Iterable[str], now: float) -> None:
    """Adds the events to the journal, unless a driver is alive, which observes the deletions and records them."""
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
    return kept + (f", {partial} partial ones that another submit continues" if partial else "")
