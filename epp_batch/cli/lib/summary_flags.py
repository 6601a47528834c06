"""Flags of summaries for `submit`, `transcribe` and `summarize`, and the `Summarizer` that they make.

`epp_batch.summaries` is imported inside the functions: it loads the openai client, which takes 0.8 s and is not needed
without --summarize.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epp.clock import Clock
from epp.tasks import Tasks
from epp_batch.errors import FolderError, InputError
from epp_batch.output_folder import OutputFolder
from epp_batch.progress_view import ProgressView
from epp_batch.spec import Run
from epp_batch.timeline import Journal

if TYPE_CHECKING:
    from epp_batch.summaries import Summarizer, SummarySettings

DEFAULT_CONCURRENCY = 8


def add_summary_flags(parser: argparse.ArgumentParser) -> None:
    """`--summarize URL` and the `--summary-…` flags of commands that make transcripts."""
    group = parser.add_argument_group("summaries")
    group.add_argument(
        "--summarize", action="append", default=[], metavar="URL",
        help="send each transcript to this OpenAI API as soon as it is finished; with several URLs, the next one is "
        "used when one shuts down. The key is read from OPENAI_API_KEY",
    )  # fmt: skip
    add_request_flags(group, "summary-")


def add_request_flags(parser: argparse._ActionsContainer, prefix: str) -> None:
    """Model, prompt, limits and retries of summary requests; every flag begins with `prefix`."""

    def add(name: str, **how: Any) -> None:
        parser.add_argument(f"--{prefix}{name}", dest=f"summary_{name.replace('-', '_')}", **how)

    add("model", default="", metavar="NAME", help="model of the request (default: the first one served)")
    add(
        "concurrency",
        type=int,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"requests at once, at most ({DEFAULT_CONCURRENCY})",
    )
    add(
        "prompt",
        default="",
        metavar="TEXT",
        help="prompt that contains {transcript}; @FILE reads it from a file (default: the paper's)",
    )
    add("max-tokens", type=int, default=512, metavar="N", help="longest summary (512)")
    add(
        "max-prompt-tokens", type=int, metavar="N",
        help="trim longer prompts (default: what the model's context leaves; the paper: about 8500)",
    )  # fmt: skip
    add("keep", choices=("start", "ends"), default="start", help="which part of a trimmed transcript stays (start)")
    add("temperature", type=float, metavar="T", help="sampling temperature (default: the server's)")
    add(
        "header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="request header, e.g. a fairness ID; repeatable",
    )
    add("extra", default="{}", metavar="JSON", help="more fields of the request, e.g. chat_template_kwargs")
    add("patience", type=float, default=900.0, metavar="SECONDS", help="how long a failed request is retried (900)")


def parse_settings(args: argparse.Namespace) -> SummarySettings:
    """The settings of the flags; raises InputError for invalid ones."""
    from epp_batch.summaries import DEFAULT_TEMPLATE, SummarySettings

    try:
        extra = json.loads(args.summary_extra)
    except ValueError as error:
        remedy = 'write a JSON object, {"field": …}'
        raise InputError(f"extra fields of summary requests are not JSON: {error}", remedy=remedy) from error
    if not isinstance(extra, dict):
        raise InputError("extra fields of summary requests are not a JSON object", remedy='write {"field": …}')
    for header in args.summary_header:
        if "=" not in header:
            raise InputError(f"invalid header of summary requests {header!r}", remedy="write NAME=VALUE")
    settings = SummarySettings(
        template=_read_prompt(args.summary_prompt) or DEFAULT_TEMPLATE,
        max_tokens=args.summary_max_tokens,
        max_prompt_tokens=args.summary_max_prompt_tokens,
        keep=args.summary_keep,
        temperature=args.summary_temperature,
        extra=extra,
        headers=dict(header.split("=", 1) for header in args.summary_header),
        patience_seconds=args.summary_patience,
    )
    settings.validate()
    return settings


def create_summarizer(args: argparse.Namespace, folder: OutputFolder, **parts: Any) -> Summarizer:
    """A Summarizer with the settings of the flags; `parts` are its clock, tasks, journal and callbacks."""
    from epp_batch.summaries import Summarizer

    return Summarizer(
        args.summarize,
        args.summary_model,
        folder,
        api_key=os.environ.get("OPENAI_API_KEY"),
        concurrency=args.summary_concurrency,
        settings=parse_settings(args),
        **parts,
    )


def create_run_summarizer(
    args: argparse.Namespace,
    folder: OutputFolder,
    run: Run,
    clock: Clock,
    tasks: Tasks,
    journal: Journal,
    view: ProgressView,
) -> Summarizer | None:
    """The summarizer of a run that is being transcribed; None without --summarize."""
    if not args.summarize:
        return None
    units = {task.stem: unit.name for unit in run.units for task in unit.tasks}
    return create_summarizer(
        args, folder, clock=clock, tasks=tasks, journal=journal, unit_of_stem=units.__getitem__, on_event=view.on_event,
        on_failure=view.on_failure,
    )  # fmt: skip


def unit_name_lookup(folder: OutputFolder) -> Callable[[str], str]:
    """A function from stems to units of the folder's run; a stem that the run does not have stands for itself."""
    try:
        units = {task.stem: unit.name for unit in folder.load_run().units for task in unit.tasks}
    except FolderError:
        units = {}
    return lambda stem: units.get(stem, stem)


def _read_prompt(value: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{value[1:]}: {error}", remedy="give a text file after @") from error
