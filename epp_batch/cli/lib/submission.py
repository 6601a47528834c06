"""Steps of `submit` after preflight: delete Jobs of an earlier submission, report this one, follow the run."""

from __future__ import annotations

import argparse
import sys

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.cli.lib import summary_flags
from epp_batch.controller.drive import drive_run
from epp_batch.controller.job_writer import JobWriter
from epp_batch.controller.run_status import list_jobs
from epp_batch.intake import IntakeResult
from epp_batch.kube.client import ApiClient
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import choose_view
from epp_batch.spec import Run
from epp_batch.timeline import Journal


def print_submission(run: Run, intake: IntakeResult, folder: OutputFolder) -> None:
    """One line on standard error about what is submitted."""
    tasks = run.list_tasks()
    done = sum(folder.find_finished_result(task, run.options) is not None for task in tasks)
    hours = sum(task.recording.seconds or 0.0 for task in tasks) / 3600
    parts = [f"{len(tasks)} recordings ({hours:.1f} h of audio) in {len(run.units)} Jobs"]
    parts += [f"{done} finished before"] if done else []
    parts += [f"{len(intake.failures_by_stem)} cannot be read"] if intake.failures_by_stem else []
    print(f"run {run.name}: {', '.join(parts)}", file=sys.stderr)


async def delete_superseded_jobs(client: ApiClient, previous: Run | None, run: Run) -> int:
    """Deletes unfinished Jobs of the previous submission that would write the same files as a unit of this one.

    Returns how many other unfinished Jobs of the previous submission remain; no driver follows them any more.
    """
    if previous is None or previous.cluster is None:
        return 0
    current_names = {unit.name for unit in run.units}
    current_stems = {stem for task in run.list_tasks() for stem in task.recording.stems}
    previous_units = {unit.name: unit for unit in previous.units if unit.name not in current_names}
    superseded, remaining = [], 0
    for job in await list_jobs(client, previous.cluster.namespace, previous.name):
        unit = previous_units.get(job.metadata.name)
        if unit is None or job.is_finished:
            continue
        if any(stem in current_stems for task in unit.tasks for stem in task.recording.stems):
            superseded.append(job)
        else:
            remaining += 1
    await JobWriter(client, previous.cluster.namespace).delete_jobs(superseded, wait=True)
    return remaining


async def discard_previous_results(client: ApiClient, run: Run, folder: OutputFolder) -> None:
    """`--force`: deletes the run's Jobs and the files that mark recordings as finished, failed or partly done.

    Transcripts stay until new ones replace them.
    """
    assert run.cluster is not None
    names = {unit.name for unit in run.units}
    jobs = await list_jobs(client, run.cluster.namespace, run.name)
    own = [job for job in jobs if job.metadata.name in names]
    await JobWriter(client, run.cluster.namespace).delete_jobs(own, wait=True)
    for task in run.list_tasks():
        for stem in task.recording.stems:
            for suffix in ("done.json", "failed.json", "partial.jsonl"):
                folder.path(stem, suffix).unlink(missing_ok=True)


async def follow_run(
    args: argparse.Namespace, run: Run, intake: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> int:
    """Controls the run until every recording and every summary has ended; the exit code of `submit`."""
    tasks, journal = Tasks("submit"), Journal(folder.events_file)
    view = choose_view(sys.stdout, args.json, run=run)
    for failure in intake.failures:
        view.on_failure(failure)
    summarizer = summary_flags.create_run_summarizer(args, folder, run, clock, tasks, journal, view)
    try:
        if summarizer is not None and (warning := await summarizer.check_gateway()):
            print(f"epp-batch submit: {warning}", file=sys.stderr)
        outcome = await drive_run(
            run,
            folder,
            client=client,
            clock=clock,
            tasks=tasks,
            view=view,
            on_transcript=summarizer.submit if summarizer is not None else None,
            creates_jobs=True,
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
        print("epp-batch submit: repeat the command with --retry-failed to try these again", file=sys.stderr)
    return 1 if outcome.exit_code or intake.failures_by_stem or (summaries is not None and summaries.failed) else 0
