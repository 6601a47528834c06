"""`epp-batch transcribe`: a run on this machine, from sources to transcripts and summaries."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from epp.clock import Clock, SystemClock
from epp.tasks import Tasks
from epp_batch.cli.lib import run_building, source_flags, summary_flags
from epp_batch.cli.lib.flag_values import parse_per_model, parse_positive_int
from epp_batch.controller.control import lock_folder
from epp_batch.errors import InputError
from epp_batch.local import WorkerPool
from epp_batch.local.worker_process import WorkerProcess
from epp_batch.output_folder import OutputFolder, TaskFailure, TranscriptionResult
from epp_batch.progress_view import choose_view
from epp_batch.spec import Run, Task
from epp_batch.timeline import Journal
from epp_batch.worker.hardware import count_usable_cores, list_visible_gpus

if TYPE_CHECKING:
    from epp_batch.summaries import Summarizer

DEFAULT_MODEL = "tiny.en"
CORES_PER_PROCESS = 4
"""Default without GPUs. Each process holds the model once more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source_flags.add_source_flags(parser)
    source_flags.add_model_flags(parser, DEFAULT_MODEL)
    source_flags.add_whisper_flags(parser)
    source_flags.add_order_flags(parser)
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--processes",
        type=parse_positive_int,
        metavar="N",
        help="recordings at once (default: one per GPU; without GPUs one per 4 cores)",
    )
    group.add_argument(
        "--threads", type=parse_positive_int, metavar="N", help="of each process (default: its share of the cores)"
    )
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    summary_flags.add_summary_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 if every recording has its transcript (and summary), 1 if one failed, 130 after SIGINT or SIGTERM."""
    folder = OutputFolder(Path(args.output).absolute())
    try:
        with lock_folder(folder) as alone:
            if not alone:
                raise InputError(f"{folder.root}: another command is at work here", remedy="wait for its end")
            return _transcribe_sources(args, folder, SystemClock())
    except OSError as error:
        raise run_building.folder_error(error, folder) from error


def _transcribe_sources(args: argparse.Namespace, folder: OutputFolder, clock: Clock) -> int:
    """Called with the folder's lock held."""
    model_paths = parse_per_model("--model-path", args.model_path)
    gathered = run_building.gather_sources(args, folder)
    run = run_building.build_run(args, folder, gathered, clock)
    folder.save_run(run)
    gathered.save_failures(folder, clock.wall())
    if args.force:
        for task in run.list_tasks():
            for stem in task.recording.stems:
                folder.path(stem, "done.json").unlink(missing_ok=True)
    return asyncio.run(_transcribe_run(args, run, folder, model_paths, gathered.failures, clock))


async def _transcribe_run(
    args: argparse.Namespace,
    run: Run,
    folder: OutputFolder,
    model_paths: dict[str, str],
    failures: list[TaskFailure],
    clock: Clock,
) -> int:
    stop, tasks, journal = asyncio.Event(), Tasks("transcribe"), Journal(folder.events_file)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    view = choose_view(sys.stdout, args.json, run=run)
    for failure in failures:
        view.on_failure(failure)
    workers, threads = _create_workers(args, len(run.units), folder, clock)
    summarizer = summary_flags.create_run_summarizer(args, folder, run, clock, tasks, journal, view)
    pool = WorkerPool(
        run, folder, workers, model_paths=model_paths, threads=threads, retry_failed=args.retry_failed, clock=clock,
        journal=journal, view=view, on_done=summarizer.submit if summarizer else _ignore_transcript,
    )  # fmt: skip
    try:
        if summarizer and (warning := await summarizer.check_gateway()):
            print(f"epp-batch transcribe: {warning}", file=sys.stderr)
        outcome = await pool.transcribe(tasks, stop)
        failed_summaries = await _drain_summaries(summarizer, stop, tasks) if summarizer else 0
    finally:
        if summarizer:
            await summarizer.close()
        await tasks.close()
        view.close()
        journal.close()
    if stop.is_set():
        print("epp-batch transcribe: stopped; the same command continues it", file=sys.stderr)
        return 130
    return 1 if failures or outcome.failed or failed_summaries else 0


def _create_workers(
    args: argparse.Namespace, units: int, folder: OutputFolder, clock: Clock
) -> tuple[list[WorkerProcess], int]:
    """The worker processes, not started yet, and the number of threads of each."""
    gpus = list_visible_gpus()
    count = min(args.processes or len(gpus) or max(1, count_usable_cores() // CORES_PER_PROCESS), max(1, units))
    threads = args.threads or max(1, count_usable_cores() // count)
    logs = folder.root / ".epp-batch"
    environments = [{"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} if gpus else {} for n in range(count)]
    workers = [WorkerProcess(n, logs / f"worker-{n}.log", environments[n], clock) for n in range(count)]
    return workers, threads


async def _drain_summaries(summarizer: Summarizer, stop: asyncio.Event, tasks: Tasks) -> int:
    """Waits for the summaries that are under way, or until `stop` is set; how many failed."""
    drained = tasks.spawn("summaries", summarizer.drain())
    stopped = tasks.spawn("stop", stop.wait())
    await asyncio.wait((drained, stopped), return_when=asyncio.FIRST_COMPLETED)
    return len(summarizer.outcome.failed)


def _ignore_transcript(task: Task, result: TranscriptionResult) -> None:
    """Called for each transcript without --summarize."""
