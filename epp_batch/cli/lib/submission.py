"""What `submit` does once it is known that the run can run."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any

from epp_batch.errors import ClusterError
from epp_batch.kube.client import Client
from epp_batch.kube.errors import Conflict, NotFound
from epp_batch.kube.resources import CLAIM_TEMPLATES, JOBS
from epp_batch.manifests import jobs
from epp_batch.manifests.jobs import RUN_LABEL
from epp_batch.output_folder import Folder
from epp_batch.spec import Run, Task, Unit

if TYPE_CHECKING:
    from epp.clock import Clock
    from epp_batch.intake import Gathered
    from epp_batch.output_folder import Result

LOOKS = 300
"""At a Job that is being deleted, 0.2 s apart."""


def announce(wanted: Run, gathered: Gathered, folder: Folder) -> None:
    """What was submitted, in one line."""
    tasks = wanted.tasks()
    done = sum(folder.finished(task, wanted.options) is not None for task in tasks)
    hours = sum(task.recording.seconds or 0.0 for task in tasks) / 3600
    parts = [f"{len(tasks)} recordings ({hours:.1f} h of audio) in {len(wanted.units)} Jobs"]
    parts += [f"{done} finished before"] if done else []
    parts += [f"{len(gathered.failed)} cannot be read"] if gathered.failed else []
    print(f"run {wanted.name}: {', '.join(parts)}", file=sys.stderr)


async def supersede(client: Client, before: Run | None, run: Run) -> int:
    """Deletes Jobs of the last submission that would write where this one's shall; how many others of it go on."""
    if before is None or before.cluster is None:
        return 0
    wanted = {unit.name for unit in run.units}
    stems = {stem for task in run.tasks() for stem in task.recording.stems}
    old = {unit.name: unit for unit in before.units if unit.name not in wanted}
    there = await client.list(JOBS.path(before.cluster.namespace), selector=f"{RUN_LABEL}={before.name}")
    left = 0
    for meta in (one["metadata"] for one in there if one["metadata"]["name"] in old and not _ended(one)):
        path = JOBS.path(before.cluster.namespace, meta["name"])
        if any(stem in stems for task in old[meta["name"]].tasks for stem in task.recording.stems):
            await client.delete(path, uid=meta["uid"])
            await _gone(client, path, meta["uid"])
        else:
            left += 1
    return left


def _open(unit: Unit, run: Run, folder: Folder, *, retry: bool) -> bool:
    """Whether some task has neither a transcript nor a failure that is final."""
    for task in unit.tasks:
        failure = folder.failure(task.stem)
        failed = failure is not None and failure.permanent and failure.key == task.key(run.options)
        if (retry or not failed) and folder.finished(task, run.options) is None:
            return True
    return False


def _ended(one: dict[str, Any]) -> bool:
    return _condition(one, "Complete") or _condition(one, "Failed")


def _condition(one: dict[str, Any], kind: str) -> bool:
    conditions = one.get("status", {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


async def reopen(client: Client, run: Run, folder: Folder, *, retry: bool) -> None:
    """Deletes Jobs that have ended well and whose transcripts are there no more, so that they are made again.

    Without `retry` only where the folder has a part of the transcript: else it may be one that workers do not share.
    """
    there = await client.list(JOBS.path(_namespace(run)), selector=f"{RUN_LABEL}={run.name}")
    units = {unit.name: unit for unit in run.units}
    for meta in (one["metadata"] for one in there if _condition(one, "Complete")):
        tasks = units[meta["name"]].tasks if meta["name"] in units else ()
        missing = [task for task in tasks if folder.finished(task, run.options) is None]
        if any(retry or _damaged(task, run, folder) for task in missing):
            await client.delete(JOBS.path(_namespace(run), meta["name"]), uid=meta["uid"])
            await _gone(client, JOBS.path(_namespace(run), meta["name"]), meta["uid"])


def _damaged(task: Task, run: Run, folder: Folder) -> bool:
    result = folder.result(task.stem)
    return result is not None and result.key == task.key(run.options)


async def forget(client: Client, run: Run, folder: Folder) -> None:
    """Deletes the run's Jobs and what says that its recordings are done; transcripts stay until there are new ones."""
    namespace = _namespace(run)
    names = {unit.name for unit in run.units}
    there = await client.list(JOBS.path(namespace), selector=f"{RUN_LABEL}={run.name}")
    ours = [one["metadata"] for one in there if one["metadata"]["name"] in names]
    for meta in ours:
        await client.delete(JOBS.path(namespace, meta["name"]), uid=meta["uid"])
    for meta in ours:
        await _gone(client, JOBS.path(namespace, meta["name"]), meta["uid"])
    for task in run.tasks():
        for stem in task.recording.stems:
            for suffix in ("done.json", "failed.json", "partial.jsonl"):
                folder.path(stem, suffix).unlink(missing_ok=True)


async def _gone(client: Client, path: str, uid: str) -> None:
    for _ in range(LOOKS):
        try:
            if (await client.get(path))["metadata"]["uid"] != uid:
                return
        except NotFound:
            return
        await asyncio.sleep(0.2)
    raise ClusterError(f"{path} is still being deleted", remedy="see what holds it (its finalizers), then submit again")


async def create(client: Client, run: Run, folder: Folder, *, retry: bool) -> int:
    """Makes the Jobs that are missing, in an order that Kueue keeps; how many. Nobody follows them.

    `retry` makes those again that have failed.
    """
    namespace = _namespace(run)
    for template in jobs.templates(run):
        try:
            await client.create(CLAIM_TEMPLATES.path(namespace), template)
        except Conflict:
            continue
    known = set()
    for one in await client.list(JOBS.path(namespace), selector=f"{RUN_LABEL}={run.name}"):
        if retry and _condition(one, "Failed"):
            path = JOBS.path(namespace, one["metadata"]["name"])
            await client.delete(path, uid=one["metadata"]["uid"])
            await _gone(client, path, one["metadata"]["uid"])
        else:
            known.add(one["metadata"]["name"])
    missing = [unit for unit in run.units if unit.name not in known and _open(unit, run, folder, retry=retry)]
    step = jobs.a_second(len(missing))
    for first in range(0, len(missing), step):
        if first:
            await asyncio.sleep(1.0)
        await asyncio.gather(*(_make(client, unit, run) for unit in missing[first : first + step]))
    return len(missing)


async def _make(client: Client, unit: Unit, run: Run) -> None:
    try:
        await client.create(JOBS.path(_namespace(run)), jobs.job(unit, run))
    except Conflict:
        return


async def follow(
    args: argparse.Namespace, run: Run, gathered: Gathered, folder: Folder, client: Client, clock: Clock
) -> int:
    """Until every recording has its end, and every summary; the exit code."""
    from epp.tasks import Tasks
    from epp_batch import progress_view as views
    from epp_batch.cli.lib import summary_flags
    from epp_batch.controller.drive import drive
    from epp_batch.timeline import Journal

    tasks, journal = Tasks("submit"), Journal(folder.events_file)
    view = views.choose(sys.stdout, args.json, run=run)
    for failure in gathered.failures:
        view.failure(failure)
    summarizer = summary_flags.of_run(args, folder, run, clock, tasks, journal, view)
    try:
        if summarizer is not None and (warning := await summarizer.check()):
            print(f"epp-batch submit: {warning}", file=sys.stderr)
        outcome = await drive(
            run,
            folder,
            connection=client,
            clock=clock,
            tasks=tasks,
            view=view,
            on_done=summarizer.offer if summarizer is not None else _no_summary,
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
    return 1 if outcome.code or gathered.failed or (summaries is not None and summaries.failed) else 0


def _no_summary(task: Task, result: Result) -> None:
    """A transcript that nothing waits for."""


def _namespace(run: Run) -> str:
    assert run.cluster is not None
    return run.cluster.namespace
