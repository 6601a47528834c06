"""`epp-batch summarize`: the summaries a folder of transcripts still lacks; the flags of summaries for others."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epp_batch.errors import FolderError, InputError

if TYPE_CHECKING:
    from epp_batch.folder import Failure, Folder
    from epp_batch.summaries import Settings, Summarizer
    from epp_batch.timeline import Event

HELP = "send finished transcripts to an LLM through the gateway, and keep its summaries beside them"
CONCURRENCY = 8
FOLLOW_SECONDS = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT", help="folder that was transcribed into")
    parser.add_argument(
        "--url", action="append", required=True, dest="summarize", metavar="URL",
        help="the gateway's OpenAI API, e.g. http://127.0.0.1:8081/v1; several: the next one when one shuts down",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="wait for transcripts until the folder's run is through")
    parser.add_argument("--json", action="store_true", help="events as JSON lines")
    _flags(parser, "")


def flags(parser: argparse.ArgumentParser) -> None:
    """`--summarize URL` and what goes with it, for commands that make transcripts."""
    group = parser.add_argument_group("summaries")
    group.add_argument(
        "--summarize", action="append", default=[], metavar="URL",
        help="send each transcript to this OpenAI API, as soon as it is there; "
        "several: the next one when one shuts down. The key is taken from OPENAI_API_KEY",
    )  # fmt: skip
    _flags(group, "summary-")


def _flags(parser: argparse._ActionsContainer, prefix: str) -> None:
    def add(name: str, **how: Any) -> None:
        parser.add_argument(f"--{prefix}{name}", dest=f"summary_{name.replace('-', '_')}", **how)

    add("model", default="", metavar="NAME", help="model to ask (default: the first one served)")
    add("concurrency", type=int, default=CONCURRENCY, metavar="N", help=f"at most so many at once ({CONCURRENCY})")
    add("prompt", default="", metavar="TEXT", help="with {transcript} in it; @FILE reads it (default: the paper's)")
    add("max-tokens", type=int, default=512, metavar="N", help="longest summary (512)")
    add(
        "max-prompt-tokens", type=int, metavar="N",
        help="trim longer prompts (default: what the model's context leaves; the paper: about 8500)",
    )  # fmt: skip
    add("keep", choices=("start", "ends"), default="start", help="what stays of one that is trimmed (start)")
    add("temperature", type=float, metavar="T", help="(default: the server's)")
    add("header", action="append", default=[], metavar="NAME=VALUE", help="sent along, e.g. a fairness id; repeatable")
    add("extra", default="{}", metavar="JSON", help="more fields of the request, e.g. chat_template_kwargs")
    add("patience", type=float, default=900.0, metavar="SECONDS", help="try again for so long (900)")


def settings(args: argparse.Namespace) -> Settings:
    """The flags as Settings; raises InputError."""
    from epp_batch.summaries import TEMPLATE, Settings

    try:
        extra = json.loads(args.summary_extra)
        headers = dict(header.split("=", 1) for header in args.summary_header)
    except ValueError as error:
        remedy = 'write NAME=VALUE for a header and {"field": …} for extra fields'
        raise InputError(f"headers or extra fields of summaries: {error}", remedy=remedy) from error
    if not isinstance(extra, dict):
        raise InputError("extra fields of summaries are no JSON object", remedy='write {"field": …}')
    chosen = Settings(
        template=_text(args.summary_prompt) or TEMPLATE,
        max_tokens=args.summary_max_tokens,
        max_prompt_tokens=args.summary_max_prompt_tokens,
        keep=args.summary_keep,
        temperature=args.summary_temperature,
        extra=extra,
        headers=headers,
        patience_seconds=args.summary_patience,
    )
    chosen.check()
    return chosen


def summarizer(args: argparse.Namespace, folder: Folder, **parts: Any) -> Summarizer:
    """A Summarizer by the flags; `parts` are its clock, tasks, journal, and what it calls back."""
    from epp_batch.summaries import Summarizer

    return Summarizer(
        args.summarize,
        args.summary_model,
        folder,
        api_key=os.environ.get("OPENAI_API_KEY"),
        concurrency=args.summary_concurrency,
        settings=settings(args),
        **parts,
    )


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    from epp.clock import SystemClock
    from epp.tasks import Tasks
    from epp_batch.folder import Folder
    from epp_batch.timeline import Journal

    folder = Folder(args.folder)
    if not folder.root.is_dir():
        raise FolderError(f"{folder.root}: no such folder", remedy="give the one that was transcribed into")
    tasks, journal = Tasks("summarize"), Journal(folder.events_file)
    by_flags = summarizer(
        args, folder, clock=SystemClock(), tasks=tasks, journal=journal,
        units=unit_names(folder), on_event=_shower(args.json), on_failure=complain,
    )  # fmt: skip
    try:
        if warning := await by_flags.check():
            print(f"epp-batch summarize: {warning}", file=sys.stderr)
        found = await _offer_all(folder, by_flags, follow=args.follow)
        outcome = await by_flags.drain()
    finally:
        await by_flags.close()
        await tasks.close()
        journal.close()
    if not found:
        raise InputError(f"{folder.root}: no finished transcript", remedy="transcribe into it first")
    if not args.json:
        print(f"{outcome.done} summarised, {outcome.skipped} there already, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


async def _offer_all(folder: Folder, to: Summarizer, *, follow: bool) -> bool:
    """Offers every finished transcript; with `follow` until none can come any more. Whether there was any."""
    from epp_batch.summaries.finished import finished, waiting

    while True:
        last = not follow or not waiting(folder)
        done = finished(folder)
        for task, result in done:
            to.offer(task, result)
        if last:
            return bool(done)
        await asyncio.sleep(FOLLOW_SECONDS)


def unit_names(folder: Folder) -> Callable[[str], str]:
    """The unit of a stem, by the folder's run; the stem itself where no run names it."""
    try:
        units = {task.stem: unit.name for unit in folder.run().units for task in unit.tasks}
    except FolderError:
        units = {}
    return lambda stem: units.get(stem, stem)


def complain(failure: Failure) -> None:
    """One line for one failure."""
    print(f"{failure.source}: {failure.stage}: {failure.message}; {failure.remedy}", file=sys.stderr, flush=True)


def _shower(as_json: bool) -> Callable[[Event], None]:
    import msgspec

    def show(event: Event) -> None:
        if as_json:
            print(msgspec.json.encode(event).decode(), flush=True)
        elif event.kind == "summarized":
            print(f"{event.stem}: summarised, {event.detail}", flush=True)

    return show


def _text(value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{value[1:]}: {error}", remedy="give a text file after @") from error
