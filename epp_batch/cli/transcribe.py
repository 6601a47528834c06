"""`epp-batch transcribe`: a run on this machine, from sources to transcripts, and on to summaries."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from epp_batch.cli.lib import source_flags, summary_flags
from epp_batch.errors import FailureKind, FolderError, InputError

if TYPE_CHECKING:
    from epp.clock import Clock
    from epp.tasks import Tasks
    from epp_batch.intake import IntakeResult
    from epp_batch.local.worker_process import WorkerProcess
    from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
    from epp_batch.spec import Run, Task
    from epp_batch.summaries import Summarizer

HELP = "transcribe here, with the worker that runs in pods, in a few processes; no cluster"
DEFAULT_MODEL = "tiny.en"
CORES_PER_PROCESS = 4
"""Of one process by default: each holds the model once more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source_flags.add_source_flags(parser)
    source_flags.add_model_flags(parser, DEFAULT_MODEL)
    source_flags.add_whisper_flags(parser)
    source_flags.add_order_flags(parser)
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--processes",
        type=source_flags.parse_positive_int,
        metavar="N",
        help="recordings at once (default: one a GPU; without GPUs one for every 4 cores)",
    )
    group.add_argument(
        "--threads", type=source_flags.parse_positive_int, metavar="N", help="of each process (default: its share)"
    )
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    source_flags.add_summary_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 when every recording has its transcript (and summary), 1 when one failed, 130 when it was interrupted."""
    from epp.clock import SystemClock
    from epp_batch.controller.control import lock_folder
    from epp_batch.output_folder import OutputFolder
    from epp_batch.worker.failures import DISK_FULL_ERRNOS

    clock = SystemClock()
    folder = OutputFolder(Path(args.output).absolute())
    try:
        with lock_folder(folder) as alone:
            if not alone:
                raise InputError(f"{folder.root}: another command is at work here", remedy="wait for its end")
            return _transcribe_locked(args, folder, clock)
    except OSError as error:
        remedy = (
            FailureKind.DISK_FULL.remedy
            if error.errno in DISK_FULL_ERRNOS
            else "give an output folder that can be written"
        )
        raise FolderError(f"{error.filename or folder.root}: {error.strerror}", remedy=remedy) from error


def _transcribe_locked(args: argparse.Namespace, folder: OutputFolder, clock: Clock) -> int:
    """With the folder for ourselves."""
    paths = source_flags.parse_per_model("--model-path", args.model_path)
    wanted, gathered = _build_run(args, folder, clock)
    folder.save_run(wanted)
    gathered.save_failures(folder, clock.wall())
    if args.force:
        for task in wanted.list_tasks():
            for stem in task.recording.stems:
                folder.path(stem, "done.json").unlink(missing_ok=True)
    return asyncio.run(_transcribe_run(args, wanted, folder, paths, gathered.failures, clock))


def _build_run(args: argparse.Namespace, folder: OutputFolder, clock: Clock) -> tuple[Run, IntakeResult]:
    """The run that the flags and sources make. Raises InputError."""
    from epp_batch import intake
    from epp_batch.output_folder import load_struct
    from epp_batch.spec import Run

    options, name = source_flags.parse_whisper_options(args), source_flags.choose_run_name(args.run_name, folder)
    intake.ModelRules(args.model, args.default_model)
    gathered = intake.gather_recordings(
        args.sources,
        folder,
        relative_to=args.relative_to,
        references=args.references,
        probe_lengths=not args.no_probe,
        on_progress=_print_progress if sys.stderr.isatty() else None,
    )
    rules = intake.ModelRules(args.model, args.default_model, gathered.models_by_stem)
    before = load_struct(folder.run_file, Run)
    units = intake.build_units(
        gathered.recordings, rules, options, run=name, order=args.order, shard_seconds=args.shard_seconds,
        previous=before.units if before else (),
    )  # fmt: skip
    wanted = Run(
        name=name,
        output=str(folder.root),
        options=options,
        units=tuple(units),
        created=clock.wall(),
        fetch_model=args.fetch_model,
        max_seconds=args.max_seconds,
    )
    return wanted, gathered


def _print_progress(done: int, total: int) -> None:
    """How far the reading of sources has come, on a terminal."""
    print(f"\rread {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


async def _transcribe_run(
    args: argparse.Namespace,
    wanted: Run,
    folder: OutputFolder,
    paths: dict[str, str],
    failures: list[TaskFailure],
    clock: Clock,
) -> int:
    from epp.tasks import Tasks
    from epp_batch import progress_view as views
    from epp_batch.local import WorkerPool
    from epp_batch.timeline import Journal

    stop, tasks, journal = asyncio.Event(), Tasks("transcribe"), Journal(folder.events_file)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    view = views.choose_view(sys.stdout, args.json, run=wanted)
    for failure in failures:
        view.on_failure(failure)
    workers, threads = _create_workers(args, len(wanted.units), folder, clock)
    summarizer = summary_flags.create_run_summarizer(args, folder, wanted, clock, tasks, journal, view)
    pool = WorkerPool(
        wanted, folder, workers, paths=paths, threads=threads, retry_failed=args.retry_failed, clock=clock,
        journal=journal, view=view, on_done=summarizer.submit if summarizer else _ignore_transcript,
    )  # fmt: skip
    try:
        if summarizer and (warning := await summarizer.check_gateway()):
            print(f"epp-batch transcribe: {warning}", file=sys.stderr)
        outcome = await pool.transcribe(tasks, stop)
        unsummarized = await _drain_summaries(summarizer, stop, tasks) if summarizer else 0
    finally:
        if summarizer:
            await summarizer.close()
        await tasks.close()
        view.close()
        journal.close()
    if stop.is_set():
        print("epp-batch transcribe: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 1 if failures or outcome.failed or unsummarized else 0


def _create_workers(
    args: argparse.Namespace, units: int, folder: OutputFolder, clock: Clock
) -> tuple[list[WorkerProcess], int]:
    """The processes, not started yet, and the threads of each: one a GPU, else one for every 4 cores."""
    from epp_batch.local.worker_process import WorkerProcess
    from epp_batch.worker.hardware import count_usable_cores, list_visible_gpus

    devices = list_visible_gpus()
    count = min(args.processes or len(devices) or max(1, count_usable_cores() // CORES_PER_PROCESS), max(1, units))
    threads = args.threads or max(1, count_usable_cores() // count)
    logs = folder.root / ".epp-batch"
    environments = [{"CUDA_VISIBLE_DEVICES": devices[n % len(devices)]} if devices else {} for n in range(count)]
    workers = [WorkerProcess(n, logs / f"worker-{n}.log", environments[n], clock) for n in range(count)]
    return workers, threads


async def _drain_summaries(summarizer: Summarizer, stop: asyncio.Event, tasks: Tasks) -> int:
    """Waits for the summaries under way, unless told to stop; how many failed."""
    drained = tasks.spawn("summaries", summarizer.drain())
    stopped = tasks.spawn("stop", stop.wait())
    await asyncio.wait((drained, stopped), return_when=asyncio.FIRST_COMPLETED)
    return len(summarizer.outcome.failed)


def _ignore_transcript(task: Task, result: TranscriptionResult) -> None:
    """Without summaries a transcript needs nothing more."""
