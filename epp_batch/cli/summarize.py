"""`epp-batch summarize`: the summaries that a folder of transcripts still lacks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from epp_batch.cli.lib import summary_flags
from epp_batch.errors import FolderError, InputError

if TYPE_CHECKING:
    from epp_batch.output_folder import OutputFolder
    from epp_batch.summaries import SummariesOutcome, Summarizer
    from epp_batch.timeline import Journal, TimelineEvent

HELP = "send finished transcripts to an LLM through the gateway, and keep its summaries beside them"
FOLLOW_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT", help="folder that was transcribed into")
    parser.add_argument(
        "--url", action="append", required=True, dest="summarize", metavar="URL",
        help="the gateway's OpenAI API, e.g. http://127.0.0.1:8081/v1; several: the next one when one shuts down",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="wait for transcripts until the folder's run is through")
    parser.add_argument("--json", action="store_true", help="events as JSON lines")
    summary_flags.add_request_flags(parser, "")


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_run_until_sigterm(args))


async def _run_until_sigterm(args: argparse.Namespace) -> int:
    """SIGTERM gives up what is not through, as Ctrl-C does; what is summarised stays."""
    this, ended = asyncio.current_task(), False

    def end() -> None:
        nonlocal ended
        ended = True
        assert this is not None
        this.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        return await _summarize_folder(args)
    except asyncio.CancelledError:
        if not ended:
            raise
        return 128 + signal.SIGTERM


async def _summarize_folder(args: argparse.Namespace) -> int:
    from epp_batch.output_folder import OutputFolder
    from epp_batch.timeline import Journal

    folder = OutputFolder(args.folder)
    if not folder.root.is_dir():
        raise FolderError(f"{folder.root}: no such folder", remedy="give the one that was transcribed into")
    try:
        journal = Journal(folder.events_file)
    except OSError as error:
        raise FolderError(f"{folder.events_file}: {error.strerror}", remedy="make the folder writable") from error
    with contextlib.closing(journal):
        found, outcome = await _summarize_transcripts(args, folder, journal)
    if not found:
        raise InputError(f"{folder.root}: no finished transcript", remedy="transcribe into it first")
    if not args.json:
        print(f"{outcome.done} summarised, {outcome.skipped} there already, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


async def _summarize_transcripts(
    args: argparse.Namespace, folder: OutputFolder, journal: Journal
) -> tuple[bool, SummariesOutcome]:
    """Whether there was anything to summarise, and what came of it."""
    from epp.clock import SystemClock
    from epp.tasks import Tasks

    tasks = Tasks("summarize")
    summarizer = summary_flags.create_summarizer(
        args, folder, clock=SystemClock(), tasks=tasks, journal=journal,
        unit_of_stem=summary_flags.unit_name_lookup(folder), on_event=_event_printer(args.json),
        on_failure=summary_flags.print_failure,
    )  # fmt: skip
    try:
        if warning := await summarizer.check_gateway():
            print(f"epp-batch summarize: {warning}", file=sys.stderr)
        found = await _offer_transcripts(folder, summarizer, follow=args.follow)
        return found, await summarizer.drain()
    finally:
        await summarizer.close()
        await tasks.close()


async def _offer_transcripts(folder: OutputFolder, to: Summarizer, *, follow: bool) -> bool:
    """Offers every finished transcript; with `follow` until none can come any more. Whether there was any."""
    from epp_batch.summaries.finished_tasks import has_unfinished_tasks, list_finished_tasks

    while True:
        last = not follow or not has_unfinished_tasks(folder)
        done = list_finished_tasks(folder)
        for task, result in done:
            to.submit(task, result)
        if last:
            return bool(done)
        await asyncio.sleep(FOLLOW_SECONDS)


def _event_printer(as_json: bool) -> Callable[[TimelineEvent], None]:
    import msgspec

    from epp_batch.progress_view import words

    def show(event: TimelineEvent) -> None:
        if as_json:
            print(msgspec.json.encode(event).decode(), flush=True)
        elif event.kind in ("summarized", "refused"):
            print(words.format_event(event), flush=True)

    return show
