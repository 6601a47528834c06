"""`epp-batch summarize`: makes the missing summaries of a folder of transcripts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

import msgspec

from epp.clock import SystemClock
from epp.tasks import Tasks
from epp_batch.cli.lib import summary_flags
from epp_batch.cli.lib.text_output import print_failure
from epp_batch.errors import FolderError, InputError
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view.words import format_event
from epp_batch.summaries import SummariesOutcome, Summarizer
from epp_batch.summaries.finished_tasks import has_unfinished_tasks, list_finished_tasks
from epp_batch.timeline import Journal, TimelineEvent

POLL_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT", help="folder that was transcribed into")
    parser.add_argument(
        "--url", action="append", required=True, dest="summarize", metavar="URL",
        help="the gateway's OpenAI API, e.g. http://127.0.0.1:8081/v1; with several URLs, the next one is used when "
        "one shuts down",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="wait for transcripts until the folder's run has ended")
    parser.add_argument("--json", action="store_true", help="events as JSON lines")
    summary_flags.add_request_flags(parser, "")


def run(args: argparse.Namespace) -> int:
    """0 if every finished transcript has its summary, 1 if one failed, 143 after SIGTERM."""
    return asyncio.run(_run_until_sigterm(args))


async def _run_until_sigterm(args: argparse.Namespace) -> int:
    """SIGTERM cancels unfinished requests, as Ctrl-C does; finished summaries stay."""
    this_task, terminated = asyncio.current_task(), False

    def on_sigterm() -> None:
        nonlocal terminated
        terminated = True
        assert this_task is not None
        this_task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    try:
        return await _summarize_folder(args)
    except asyncio.CancelledError:
        if not terminated:
            raise
        return 128 + signal.SIGTERM


async def _summarize_folder(args: argparse.Namespace) -> int:
    folder = OutputFolder(args.folder)
    if not folder.root.is_dir():
        raise FolderError(f"{folder.root}: no such folder", remedy="give the folder that was transcribed into")
    try:
        journal = Journal(folder.events_file)
    except OSError as error:
        raise FolderError(f"{folder.events_file}: {error.strerror}", remedy="make the folder writable") from error
    with contextlib.closing(journal):
        has_transcripts, outcome = await _summarize_transcripts(args, folder, journal)
    if not has_transcripts:
        raise InputError(f"{folder.root}: no finished transcript", remedy="transcribe into it first")
    if not args.json:
        print(f"{outcome.done} summarised, {outcome.skipped} there already, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


async def _summarize_transcripts(
    args: argparse.Namespace, folder: OutputFolder, journal: Journal
) -> tuple[bool, SummariesOutcome]:
    """Whether the folder has finished transcripts, and the outcome of their summaries."""
    tasks = Tasks("summarize")
    summarizer = summary_flags.create_summarizer(
        args, folder, clock=SystemClock(), tasks=tasks, journal=journal,
        unit_of_stem=summary_flags.unit_name_lookup(folder), on_event=_event_printer(args.json),
        on_failure=print_failure,
    )  # fmt: skip
    try:
        if warning := await summarizer.check_gateway():
            print(f"epp-batch summarize: {warning}", file=sys.stderr)
        has_transcripts = await _submit_transcripts(folder, summarizer, follow=args.follow)
        return has_transcripts, await summarizer.drain()
    finally:
        await summarizer.close()
        await tasks.close()


async def _submit_transcripts(folder: OutputFolder, summarizer: Summarizer, *, follow: bool) -> bool:
    """Submits every finished transcript; with `follow` until the run has no unfinished task. Whether there was any."""
    while True:
        last = not follow or not has_unfinished_tasks(folder)
        finished = list_finished_tasks(folder)
        for task, result in finished:
            summarizer.submit(task, result)
        if last:
            return bool(finished)
        await asyncio.sleep(POLL_SECONDS)


def _event_printer(as_json: bool) -> Callable[[TimelineEvent], None]:
    def print_event(event: TimelineEvent) -> None:
        if as_json:
            print(msgspec.json.encode(event).decode(), flush=True)
        elif event.kind in ("summarized", "refused"):
            print(format_event(event), flush=True)

    return print_event
