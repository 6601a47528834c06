"""What `submit` does once it is known that the run can run."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any

from epp_batch.errors import ClusterError
from epp_batch.kube.client import ApiClient
from epp_batch.kube.errors import Conflict, NotFound
from epp_batch.kube.resources import JOBS, RESOURCE_CLAIM_TEMPLATES
from epp_batch.manifests import jobs
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import OutputFolder
from epp_batch.spec import Run, Task, Unit

if TYPE_CHECKING:
    from epp.clock import Clock
    from epp_batch.intake import IntakeResult
    from epp_batch.output_folder import TranscriptionResult

DELETION_POLLS = 300
"""At a Job that is being deleted, 0.2 s apart."""


def print_submission(wanted: Run, gathered: IntakeResult, folder: OutputFolder) -> None:
    """What was submitted, in one line."""
    tasks = wanted.list_tasks()
    done = sum(folder.find_finished_result(task, wanted.options) is not None for task in tasks)
    hours = sum(task.recording.seconds or 0.0 for task in tasks) / 3600
    parts = [f"{len(tasks)} recordings ({hours:.1f} h of audio) in {len(wanted.units)} Jobs"]
    parts += [f"{done} finished before"] if done else []
    parts += [f"{len(gathered.failures_by_stem)} cannot be read"] if gathered.failures_by_stem else []
    print(f"run {wanted.name}: {', '.join(parts)}", file=sys.stderr)


async def delete_superseded_jobs(client: ApiClient, before: Run | None, run: Run) -> int:
    """Deletes Jobs of the last submission that would write where this one's shall; how many others of it go on."""
    if before is None or before.cluster is None:
        return 0
    wanted = {unit.name for unit in run.units}
    stems = {stem for task in run.list_tasks() for stem in task.recording.stems}
    old = {unit.name: unit for unit in before.units if unit.name not in wanted}
    there = await client.list(JOBS.path(before.cluster.namespace), selector=f"{RUN_LABEL}={before.name}")
    left = 0
    for meta in (one["metadata"] for one in there if one["metadata"]["name"] in old and not _is_finished(one)):
        path = JOBS.path(before.cluster.namespace, meta["name"])
        if any(stem in stems for task in old[meta["name"]].tasks for stem in task.recording.stems):
            await client.delete(path, uid=meta["uid"])
            await _wait_until_deleted(client, path, meta["uid"])
        else:
            left += 1
    return left


def _has_open_task(unit: Unit, run: Run, folder: OutputFolder, *, retry: bool) -> bool:
    """Whether some task has neither a transcript nor a failure that is final."""
    for task in unit.tasks:
        failure = folder.load_failure(task.stem)
        failed = failure is not None and failure.permanent and failure.key == task.key(run.options)
        if (retry or not failed) and folder.find_finished_result(task, run.options) is None:
            return True
    return False


def _is_finished(one: dict[str, Any]) -> bool:
    return _has_condition(one, "Complete") or _has_condition(one, "Failed")


def _has_condition(one: dict[str, Any], kind: str) -> bool:
    conditions = one.get("status", {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


async def delete_incomplete_jobs(client: ApiClient, run: Run, folder: OutputFolder, *, retry: bool) -> None:
    """Deletes Jobs that have ended well and whose transcripts are there no more, so that they are made again.

    Without `retry` only where the folder has a part of the transcript: else it may be one that workers do not share.
    """
    there = await client.list(JOBS.path(_run_namespace(run)), selector=f"{RUN_LABEL}={run.name}")
    units = {unit.name: unit for unit in run.units}
    for meta in (one["metadata"] for one in there if _has_condition(one, "Complete")):
        tasks = units[meta["name"]].tasks if meta["name"] in units else ()
        missing = [task for task in tasks if folder.find_finished_result(task, run.options) is None]
        if any(retry or _has_damaged_transcript(task, run, folder) for task in missing):
            await client.delete(JOBS.path(_run_namespace(run), meta["name"]), uid=meta["uid"])
            await _wait_until_deleted(client, JOBS.path(_run_namespace(run), meta["name"]), meta["uid"])


def _has_damaged_transcript(task: Task, run: Run, folder: OutputFolder) -> bool:
    result = folder.load_result(task.stem)
    return result is not None and result.key == task.key(run.options)


async def discard_previous_results(client: ApiClient, run: Run, folder: OutputFolder) -> None:
    """Deletes the run's Jobs and what says that its recordings are done; transcripts stay until there are new ones."""
    namespace = _run_namespace(run)
    names = {unit.name for unit in run.units}
    there = await client.list(JOBS.path(namespace), selector=f"{RUN_LABEL}={run.name}")
    ours = [one["metadata"] for one in there if one["metadata"]["name"] in names]
    for meta in ours:
        await client.delete(JOBS.path(namespace, meta["name"]), uid=meta["uid"])
    for meta in ours:
        await _wait_until_deleted(client, JOBS.path(namespace, meta["name"]), meta["uid"])
    for task in run.list_tasks():
        for stem in task.recording.stems:
            for suffix in ("done.json", "failed.json", "partial.jsonl"):
                folder.path(stem, suffix).unlink(missing_ok=True)


async def _wait_until_deleted(client: ApiClient, path: str, uid: str) -> None:
    for _ in range(DELETION_POLLS):
        try:
            if (await client.get(path))["metadata"]["uid"] != uid:
                return
        except NotFound:
            return
        await asyncio.sleep(0.2)
    raise ClusterError(f"{path} is still being deleted", remedy="see what holds it (its finalizers), then submit again")


async def create_missing_jobs(client: ApiClient, run: Run, folder: OutputFolder, *, retry: bool) -> int:
    """Makes the Jobs that are missing, in an order that Kueue keeps; how many. Nobody follows them.

    `retry` makes those again that have failed.
    """
    namespace = _run_namespace(run)
    for template in jobs.build_claim_templates(run):
        try:
            await client.create(RESOURCE_CLAIM_TEMPLATES.path(namespace), template)
        except Conflict:
            continue
    known = set()
    for one in await client.list(JOBS.path(namespace), selector=f"{RUN_LABEL}={run.name}"):
        if retry and _has_condition(one, "Failed"):
            path = JOBS.path(namespace, one["metadata"]["name"])
            await client.delete(path, uid=one["metadata"]["uid"])
            await _wait_until_deleted(client, path, one["metadata"]["uid"])
        else:
            known.add(one["metadata"]["name"])
    missing = [unit for unit in run.units if unit.name not in known and _has_open_task(unit, run, folder, retry=retry)]
    step = jobs.compute_creation_rate(len(missing))
    for first in range(0, len(missing), step):
        if first:
            await asyncio.sleep(1.0)
        await asyncio.gather(*(_create_job(client, unit, run) for unit in missing[first : first + step]))
    return len(missing)


async def _create_job(client: ApiClient, unit: Unit, run: Run) -> None:
    try:
        await client.create(JOBS.path(_run_namespace(run)), jobs.build_job(unit, run))
    except Conflict:
        return


async def follow_run(
    args: argparse.Namespace, run: Run, gathered: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> int:
    """Until every recording has its end, and every summary; the exit code."""
    from epp.tasks import Tasks
    from epp_batch import progress_view as views
    from epp_batch.cli.lib import summary_flags
    from epp_batch.controller.drive import drive_run
    from epp_batch.timeline import Journal

    tasks, journal = Tasks("submit"), Journal(folder.events_file)
    view = views.choose_view(sys.stdout, args.json, run=run)
    for failure in gathered.failures:
        view.on_failure(failure)
    summarizer = summary_flags.create_run_summarizer(args, folder, run, clock, tasks, journal, view)
    try:
        if summarizer is not None and (warning := await summarizer.check_gateway()):
            print(f"epp-batch submit: {warning}", file=sys.stderr)
        outcome = await drive_run(
            run,
            folder,
            connection=client,
            clock=clock,
            tasks=tasks,
            view=view,
            on_done=summarizer.submit if summarizer is not None else _ignore_transcript,
            create=True,
            retry_failed=args.retry_failed,
        )
        summaries = await summarizer.drain() if summarizer is not None else None
    finally:
        if summarizer is not None:
            await summarizer.close()
        await tasks.close()
        view.close()
        journal.close()
    if outcome.failed and not args.retry_failed:
        print("epp-batch submit: the same command with --retry-failed tries these again", file=sys.stderr)
    return 1 if outcome.exit_code or gathered.failures_by_stem or (summaries is not None and summaries.failed) else 0


def _ignore_transcript(task: Task, result: TranscriptionResult) -> None:
    """A transcript that nothing waits for."""


def _run_namespace(run: Run) -> str:
    assert run.cluster is not None
    return run.cluster.namespace
