"""`epp-batch submit`: from sources to Jobs that Kueue admits, to transcripts and summaries.

The run is stored in the output folder, so that the same command continues it and does only what is missing. What would
keep a Job from ever running is reported before the first one is created.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from epp.clock import Clock, SystemClock
from epp.errors import Problem
from epp_batch import planner
from epp_batch.cli.lib import dry_run, job_flags, preflight, run_building, source_flags, submission, summary_flags
from epp_batch.cli.lib.preflight import ClusterSnapshot
from epp_batch.cli.lib.text_output import print_failure
from epp_batch.controller.control import lock_folder
from epp_batch.controller.drive import create_missing_jobs
from epp_batch.errors import ClusterError, FolderError, InputError
from epp_batch.intake import IntakeResult
from epp_batch.kube.client import ApiClient, open_client
from epp_batch.manifests import jobs
from epp_batch.output_folder import OutputFolder, load_struct
from epp_batch.planner.objects import build_cluster_model
from epp_batch.preflight.checks import find_problems
from epp_batch.spec import Run, Unit

DEFAULT_MODEL = "large-v3-turbo"
SEARCH_EFFORT = 1e8
"""Effort of the search for `--order slots`: a simulation costs a little more than the square of its number of units.
The limit keeps the search at about ten seconds."""
EXAMPLES = """\
examples:
  what it would do, and how long that would take
    epp-batch submit calls/ -o calls/out --image whisper:1 --volume pvc/audio=/mnt/audio --queue gpus --dry-run
  long calls with the large model on half a GPU, the others on a seventh; each transcript is summarized when finished
    epp-batch submit calls/ -o calls/out --image whisper:1 --volume pvc/audio=/mnt/audio --queue slices \\
      --model '>30m=large-v3' --model medium --accelerator large-v3=mig:3g.20gb --accelerator mig:1g.5gb \\
      --volume pvc/models=:/models --model-path large-v3=/models/large-v3 --model-path /models/medium \\
      --summarize http://127.0.0.1:8081/v1
The same command again does only what is missing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    source_flags.add_source_flags(parser)
    job_flags.add_connection_flags(parser)
    job_flags.add_job_flags(parser)
    source_flags.add_model_flags(parser, DEFAULT_MODEL)
    source_flags.add_whisper_flags(parser)
    source_flags.add_order_flags(parser)
    group = parser.add_argument_group("this command")
    group.add_argument(
        "--dry-run", action="store_true", help="create nothing; print Jobs, quota and predicted makespan"
    )
    group.add_argument("--yaml", action="store_true", help="with --dry-run: print the manifests for kubectl only")
    group.add_argument("--no-preflight", action="store_true", help="submit although the checks found problems")
    group.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="follow the run to its end (default); without, epp-batch watch follows it later",
    )
    group.add_argument("--json", action="store_true", help="events as JSON lines")
    summary_flags.add_summary_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 if every recording has its transcript (and summary), 1 if one failed, 130 after SIGINT or SIGTERM."""
    if args.yaml and not args.dry_run:
        raise InputError("--yaml without --dry-run", remedy="give both, or neither")
    if args.summarize and not args.follow:
        raise InputError("--summarize with --no-follow", remedy="epp-batch summarize --follow sends transcripts later")
    folder = OutputFolder(Path(args.output).absolute())
    try:
        return asyncio.run(_submit_sources(args, folder))
    except OSError as error:
        raise run_building.folder_error(error, folder) from error


async def _submit_sources(args: argparse.Namespace, folder: OutputFolder) -> int:
    clock = SystemClock()
    gathered = _gather_sources(args, folder)
    if not gathered.recordings:
        return _report_no_recordings(args, gathered, folder, clock)
    async with AsyncExitStack() as stack:
        client = await _connect(args, stack)
        namespace = args.namespace or (client.namespace if client is not None else "default")
        cluster = await _read_cluster(args, client, namespace)
        run = _build_run(args, folder, gathered, namespace, cluster, clock)
        problems = await _find_problems(run, client, cluster)
        if args.dry_run:
            return dry_run.print_dry_run(args, run, gathered, cluster, problems)
        assert client is not None
        if problems and not args.no_preflight:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise ClusterError(f"nothing was submitted: {count} on {client.server}", problems)
        await _store_run(args, run, gathered, folder, client, clock)
        return await _create_jobs(args, run, gathered, folder, client, clock)


def _gather_sources(args: argparse.Namespace, folder: OutputFolder) -> IntakeResult:
    job_flags.check_job_flags(args)
    return run_building.gather_sources(args, folder, save_cache=not args.dry_run)


async def _connect(args: argparse.Namespace, stack: AsyncExitStack) -> ApiClient | None:
    """None in a dry run if no cluster is configured."""
    try:
        return await stack.enter_async_context(open_client(args.kubeconfig, args.context))
    except ClusterError as error:
        if not args.dry_run or args.kubeconfig or args.context:
            raise
        print(f"epp-batch submit: quota is not checked: {error}", file=sys.stderr)
        return None


async def _read_cluster(args: argparse.Namespace, client: ApiClient | None, namespace: str) -> ClusterSnapshot | None:
    """None in a dry run if the cluster cannot be read."""
    try:
        return await preflight.read_cluster(client, namespace) if client is not None else None
    except ClusterError as error:
        if not args.dry_run:
            raise
        print(f"epp-batch submit: quota is not checked: {error}", file=sys.stderr)
        return None


def _build_run(
    args: argparse.Namespace,
    folder: OutputFolder,
    gathered: IntakeResult,
    namespace: str,
    cluster: ClusterSnapshot | None,
    clock: Clock,
) -> Run:
    return run_building.build_run(
        args,
        folder,
        gathered,
        clock,
        build_cluster=lambda models: job_flags.build_cluster(args, namespace, models),
        arrange=_slot_arranger(args, namespace, cluster),
    )


def _slot_arranger(
    args: argparse.Namespace, namespace: str, cluster: ClusterSnapshot | None
) -> Callable[[list[Unit]], list[Unit]]:
    """The planner's search for `--order slots`, which needs the nodes of the cluster."""

    def arrange(units: list[Unit]) -> list[Unit]:
        if cluster is None:
            reason = "--order slots needs the queues and nodes of the cluster, which could not be read"
            raise InputError(reason, remedy="use --order longest")
        options = job_flags.build_cluster(args, namespace, {unit.model for unit in units})
        search = planner.SearchOptions(evaluations=int(min(4000, SEARCH_EFFORT / max(1, len(units)) ** 2.5)))
        return planner.order_units(units, options, build_cluster_model(cluster.objects), search=search)

    return arrange


async def _find_problems(run: Run, client: ApiClient | None, cluster: ClusterSnapshot | None) -> list[Problem]:
    """What would keep a Job from ever running. Raises InputError for a path that is on no volume."""
    for unit in run.units:
        jobs.build_job(unit, run)
    if client is None or cluster is None:
        return []
    return find_problems(run, cluster.inventory) or await preflight.dry_run_jobs(client, run)


async def _store_run(
    args: argparse.Namespace, run: Run, gathered: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> None:
    """Saves the run and removes what earlier submissions left; FolderError if another command uses the folder."""
    with lock_folder(folder) as alone:
        if not alone:
            raise FolderError(f"{folder.root}: another command is at work here", remedy="wait for its end, or stop it")
        remaining = await submission.delete_superseded_jobs(client, load_struct(folder.run_file, Run), run)
        folder.save_run(run)
        gathered.save_failures(folder, clock.wall())
        if args.force:
            await submission.discard_previous_results(client, run, folder)
    submission.print_submission(run, gathered, folder)
    if remaining:
        advice = "name all sources in one command, or give each its own --output"
        print(
            f"epp-batch submit: {remaining} Jobs of the last submission continue without a driver; {advice}",
            file=sys.stderr,
        )


async def _create_jobs(
    args: argparse.Namespace, run: Run, gathered: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> int:
    """Creates the Jobs and, unless --no-follow, controls the run to its end."""
    if not args.follow:
        created = await create_missing_jobs(run, folder, client=client, retry_failed=args.retry_failed)
        print(f"{created} Jobs created; epp-batch watch {folder.root} follows them", file=sys.stderr)
        return 1 if gathered.failures_by_stem else 0
    this_task = asyncio.current_task()
    assert this_task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this_task.cancel)
    try:
        return await submission.follow_run(args, run, gathered, folder, client, clock)
    except asyncio.CancelledError:
        print(f"epp-batch submit: the Jobs continue; epp-batch watch {folder.root} follows them", file=sys.stderr)
        return 130


def _report_no_recordings(args: argparse.Namespace, gathered: IntakeResult, folder: OutputFolder, clock: Clock) -> int:
    """Prints, and except in a dry run saves, the failures of a submission whose sources all failed."""
    for failure in gathered.failures:
        print_failure(failure)
    if not args.dry_run:
        gathered.save_failures(folder, clock.wall())
    print("epp-batch submit: nothing was submitted, since no recording can be read", file=sys.stderr)
    return 1
