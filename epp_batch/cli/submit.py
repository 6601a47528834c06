"""`epp-batch submit`: from sources to Jobs that Kueue admits, and on to transcripts and summaries.

The run is kept in the output folder, so that the same command goes on where it was, and does only what is missing.
Everything that would keep a Job from ever running is found before the first one is made.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from epp_batch.cli.lib import job_flags, source_flags
from epp_batch.errors import ClusterError, FailureKind, FolderError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from epp.clock import Clock
    from epp.errors import Problem
    from epp_batch.cli.lib.preflight import ClusterSnapshot
    from epp_batch.intake import IntakeResult
    from epp_batch.kube.client import ApiClient
    from epp_batch.output_folder import OutputFolder
    from epp_batch.spec import Run, Unit

HELP = "transcribe on a cluster: one Job a recording, queued by Kueue"
DEFAULT_MODEL = "large-v3-turbo"
SEARCH_EFFORT = 1e8
"""Effort for an order by slots. A simulation costs a bit more than the square of its units: some ten seconds in all."""
EXAMPLES = """\
examples:
  what it would do, and how long that would take
    epp-batch submit calls/ -o calls/out --image whisper:1 --volume pvc/audio=/mnt/audio --queue gpus --dry-run
  long calls by the large model on half a GPU, the others on a seventh; summaries as transcripts land
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
    group.add_argument("--dry-run", action="store_true", help="make nothing; print Jobs, quota and predicted makespan")
    group.add_argument("--yaml", action="store_true", help="with --dry-run: the Jobs for kubectl, and nothing else")
    group.add_argument("--no-preflight", action="store_true", help="submit although checks say that it cannot run")
    group.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="stay until all is done (default); without, epp-batch watch comes back to it",
    )
    group.add_argument("--json", action="store_true", help="events as JSON lines")
    source_flags.add_summary_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 when every recording has its transcript (and summary), 1 when one failed, 130 when it was interrupted."""
    from epp_batch.worker.failures import DISK_FULL_ERRNOS

    if args.yaml and not args.dry_run:
        raise InputError("--yaml without --dry-run", remedy="give both, or neither")
    if args.summarize and not args.follow:
        raise InputError("--summarize with --no-follow", remedy="epp-batch summarize --follow sends transcripts later")
    try:
        return asyncio.run(_submit_sources(args))
    except OSError as error:
        remedy = (
            FailureKind.DISK_FULL.remedy
            if error.errno in DISK_FULL_ERRNOS
            else "give an output folder that can be written"
        )
        raise FolderError(f"{error.filename or args.output}: {error.strerror}", remedy=remedy) from error


async def _submit_sources(args: argparse.Namespace) -> int:
    from epp.clock import SystemClock
    from epp_batch.output_folder import OutputFolder

    clock, folder = SystemClock(), OutputFolder(Path(args.output).absolute())
    gathered = _gather_sources(args, folder)
    if not gathered.recordings:
        return _report_no_recordings(args, gathered, folder, clock)
    async with AsyncExitStack() as stack:
        client = await _connect(args, stack)
        namespace = args.namespace or (client.namespace if client is not None else "default")
        looked = await _read_cluster(args, client, namespace)
        wanted = _build_run(args, folder, gathered, namespace, looked, clock)
        problems = await _find_problems(wanted, client, looked)
        if args.dry_run:
            from epp_batch.cli.lib import dry_run

            return dry_run.print_dry_run(args, wanted, gathered, looked, problems)
        assert client is not None
        if problems and not args.no_preflight:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise ClusterError(f"nothing was submitted: {count} on {client.server}", problems)
        await _save_run(args, wanted, gathered, folder, client, clock)
        return await _create_jobs(args, wanted, gathered, folder, client, clock)


async def _save_run(
    args: argparse.Namespace, wanted: Run, gathered: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> None:
    """Puts the run into its folder, unless another command is at work there."""
    from epp_batch.cli.lib import submission
    from epp_batch.controller.control import lock_folder
    from epp_batch.output_folder import load_struct
    from epp_batch.spec import Run

    with lock_folder(folder) as alone:
        if not alone:
            raise FolderError(f"{folder.root}: another command is at work here", remedy="wait for its end, or stop it")
        left = await submission.delete_superseded_jobs(client, load_struct(folder.run_file, Run), wanted)
        folder.save_run(wanted)
        gathered.save_failures(folder, clock.wall())
        if args.force:
            await submission.discard_previous_results(client, wanted, folder)
        else:
            await submission.delete_incomplete_jobs(client, wanted, folder, retry=args.retry_failed)
    submission.print_submission(wanted, gathered, folder)
    if left:
        way = "name all sources in one command, or give each its own --output"
        print(f"epp-batch submit: {left} Jobs of the last submission go on, followed by nobody; {way}", file=sys.stderr)


def _gather_sources(args: argparse.Namespace, folder: OutputFolder) -> IntakeResult:
    """Everything that can be wrong with the flags is found before files are read."""
    from epp_batch import intake

    source_flags.parse_whisper_options(args)
    source_flags.choose_run_name(args.run_name, folder)
    intake.ModelRules(args.model, args.default_model)
    job_flags.check_job_flags(args)
    counting = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if counting:
            print(f"\rread {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return intake.gather_recordings(
        args.sources,
        folder,
        relative_to=args.relative_to,
        references=args.references,
        probe_lengths=not args.no_probe,
        save_cache=not args.dry_run,
        on_progress=progress,
    )


async def _connect(args: argparse.Namespace, stack: AsyncExitStack) -> ApiClient | None:
    """None in a dry run where no cluster is configured."""
    from epp_batch.kube.client import open_client

    try:
        return await stack.enter_async_context(open_client(args.kubeconfig, args.context))
    except ClusterError as error:
        if not args.dry_run or args.kubeconfig or args.context:
            raise
        print(f"epp-batch submit: quota is not checked: {error}", file=sys.stderr)
        return None


async def _read_cluster(args: argparse.Namespace, client: ApiClient | None, namespace: str) -> ClusterSnapshot | None:
    """None in a dry run where the cluster cannot be asked."""
    from epp_batch.cli.lib.preflight import read_cluster

    try:
        return await read_cluster(client, namespace) if client is not None else None
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
    looked: ClusterSnapshot | None,
    clock: Clock,
) -> Run:
    """The run of these sources and flags, after the one that the folder has."""
    from epp_batch import intake
    from epp_batch.output_folder import load_struct
    from epp_batch.spec import Run

    options, name = source_flags.parse_whisper_options(args), source_flags.choose_run_name(args.run_name, folder)
    before = load_struct(folder.run_file, Run)
    rules = intake.ModelRules(args.model, args.default_model, gathered.models_by_stem)
    if unknown := rules.count_unknown_lengths(gathered.recordings):
        print(
            f"epp-batch submit: {unknown} recordings of unknown length: rules by length pass over them", file=sys.stderr
        )
    units = intake.build_units(
        gathered.recordings,
        rules,
        options,
        run=name,
        order=args.order,
        shard_seconds=args.shard_seconds,
        previous=before.units if before is not None else (),
        arrange=_slot_arranger(args, namespace, looked),
    )
    return Run(
        name=name,
        output=str(folder.root),
        options=options,
        units=tuple(units),
        cluster=job_flags.build_cluster(args, namespace, {unit.model for unit in units}),
        created=clock.wall(),
        fetch_model=args.fetch_model,
        max_seconds=args.max_seconds,
    )


def _slot_arranger(
    args: argparse.Namespace, namespace: str, looked: ClusterSnapshot | None
) -> Callable[[list[Unit]], list[Unit]]:
    """The order by slots, which needs to know the cluster."""

    def arrange(made: list[Unit]) -> list[Unit]:
        from epp_batch import planner
        from epp_batch.planner.objects import build_cluster_model

        if looked is None:
            raise InputError("--order slots needs to see the cluster", remedy="--order longest")
        cluster = job_flags.build_cluster(args, namespace, {unit.model for unit in made})
        effort = planner.SearchOptions(evaluations=int(min(4000, SEARCH_EFFORT / max(1, len(made)) ** 2.5)))
        return planner.order_units(made, cluster, build_cluster_model(looked.objects), search=effort)

    return arrange


async def _find_problems(wanted: Run, client: ApiClient | None, looked: ClusterSnapshot | None) -> list[Problem]:
    """What keeps the run from running. InputError for a path that lies in no volume."""
    from epp_batch.cli.lib.preflight import dry_run_jobs
    from epp_batch.manifests import jobs
    from epp_batch.preflight.checks import find_problems

    for unit in wanted.units:
        jobs.build_job(unit, wanted)
    if client is None or looked is None:
        return []
    return find_problems(wanted, looked.seen) or await dry_run_jobs(client, wanted)


def _report_no_recordings(args: argparse.Namespace, gathered: IntakeResult, folder: OutputFolder, clock: Clock) -> int:
    """Every source failed."""
    from epp_batch.cli.lib import summary_flags

    for failure in gathered.failures:
        summary_flags.print_failure(failure)
    if not args.dry_run:
        gathered.save_failures(folder, clock.wall())
    print("epp-batch submit: nothing was submitted, since no recording can be read", file=sys.stderr)
    return 1


async def _create_jobs(
    args: argparse.Namespace, wanted: Run, gathered: IntakeResult, folder: OutputFolder, client: ApiClient, clock: Clock
) -> int:
    """Makes the Jobs and, unless told otherwise, stays until they end."""
    from epp_batch.cli.lib import submission

    if not args.follow:
        made = await submission.create_missing_jobs(client, wanted, folder, retry=args.retry_failed)
        print(f"{made} Jobs made; epp-batch watch {folder.root} follows them", file=sys.stderr)
        return 1 if gathered.failures_by_stem else 0
    stopped = asyncio.current_task()
    assert stopped is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.cancel)
    try:
        return await submission.follow_run(args, wanted, gathered, folder, client, clock)
    except asyncio.CancelledError:
        print(f"epp-batch submit: the Jobs go on; epp-batch watch {folder.root} comes back to them", file=sys.stderr)
        return 130
