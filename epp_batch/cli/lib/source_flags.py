"""Flags that `submit` and `transcribe` share: sources, models, Whisper's options, order; and the name of a run."""

from __future__ import annotations

import argparse
import hashlib
import os
import re

from epp_batch.cli.lib.flag_values import parse_duration, parse_positive_int
from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder, load_struct
from epp_batch.spec import FORMATS, Run, TranscriptFormat, TranscriptionOptions

SUBMISSION_ORDERS = ("submission", "longest", "slots")
MAX_RUN_NAME_LENGTH = 50
"""A Job's name is 13 characters longer than its run's, and has at most 63 (a label value, RFC 1123)."""


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """SOURCE… and the output folder."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="audio file, folder, glob in quotes, http(s) URL, or a manifest (.csv .tsv .jsonl: one row per recording, "
        "with a column source and optionally model, stem, reference, seconds)",
    )
    group = parser.add_argument_group("files")
    group.add_argument(
        "--output", "-o", required=True, metavar="DIR", help="folder for the transcripts and the state of the run"
    )
    group.add_argument(
        "--relative-to", metavar="DIR", help="name outputs by their path below DIR instead of below each SOURCE"
    )
    group.add_argument(
        "--references", metavar="DIR", help="DIR/<name>.txt are human transcripts, for the word error rate"
    )
    group.add_argument("--no-probe", action="store_true", help="do not open the files to read their durations")
    group.add_argument("--force", action="store_true", help="transcribe finished recordings again")
    group.add_argument("--retry-failed", action="store_true", help="try recordings with a final failure again")
    group.add_argument(
        "--run",
        dest="run_name",
        metavar="NAME",
        help="name of the run (default: made from the output folder's path)",
    )


def add_model_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Which model for which recording, and where its weights are."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="RULE",
        help=f"NAME for all; 'GLOB=NAME' by path; '>30m=NAME' or '<90s=NAME' by duration. Repeatable: the first rule "
        f"that matches applies, a bare NAME last (default {default})",
    )
    group.add_argument(
        "--model-path",
        action="append",
        default=[],
        metavar="[MODEL=]PATH",
        help="folder of a CTranslate2 Whisper model, as the worker sees it",
    )
    group.add_argument("--fetch-model", action="store_true", help="let workers download a model that is missing")
    parser.set_defaults(default_model=default)


def add_whisper_flags(parser: argparse.ArgumentParser) -> None:
    """Options of Whisper: the fields of `spec.TranscriptionOptions`."""
    group = parser.add_argument_group("transcription")
    add, default = group.add_argument, TranscriptionOptions()
    add("--language", metavar="CODE", help="language code, e.g. en or de (default: detected for each recording)")
    add("--task", choices=("transcribe", "translate"), default=default.task, help="translate: into English")
    add("--beam-size", type=parse_positive_int, default=default.beam_size, metavar="N", help="default %(default)s")
    add(
        "--batch-size",
        type=parse_positive_int,
        default=default.batch_size,
        metavar="N",
        help="chunks decoded at once; 1 is the sequential pipeline (default %(default)s)",
    )
    add("--no-vad", action="store_true", help="transcribe what the voice activity detector takes for silence, too")
    add("--no-word-timestamps", action="store_true", help="timestamps of segments only")
    add(
        "--compute-type",
        default=default.compute_type,
        metavar="TYPE",
        help="CTranslate2's: int8, float16 … (default: float16 on GPUs, int8 on CPUs)",
    )
    add("--initial-prompt", metavar="TEXT", help="names and terms that Whisper should expect")
    add("--formats", default=",".join(FORMATS), metavar="LIST", help="files to write (default %(default)s)")
    add(
        "--max-seconds",
        type=parse_duration,
        metavar="TIME",
        help="time limit for one recording (90, 90s, 2h); it then fails",
    )


def add_order_flags(parser: argparse.ArgumentParser) -> None:
    """Order of the units, and which recordings form one."""
    group = parser.add_argument_group("order")
    group.add_argument(
        "--order",
        choices=SUBMISSION_ORDERS,
        default="longest",
        help="submission: as given; longest: long recordings first, for a short makespan; slots: packed onto MIG "
        "slices, for the most units at once (default %(default)s)",
    )
    group.add_argument(
        "--shard-seconds",
        type=parse_duration,
        metavar="TIME",
        help="put short recordings of one model into one unit, up to this much audio (default: one recording per unit)",
    )


def parse_whisper_options(args: argparse.Namespace) -> TranscriptionOptions:
    """The values of `add_whisper_flags`; InputError for a format or language that does not exist."""
    formats = tuple(dict.fromkeys(part.strip() for part in args.formats.split(",") if part.strip()))
    if not formats or (unknown := [name for name in formats if name not in FORMATS]):
        wrong = ", ".join(unknown) if formats else "none given"
        raise InputError(f"--formats: {wrong}", remedy=f"choose from {', '.join(FORMATS)}")
    if args.language is not None and not re.fullmatch("[a-z]{2,3}", args.language):
        raise InputError(f"--language {args.language}", remedy="give a code, e.g. en, de or yue")
    known: dict[str, TranscriptFormat] = {name: name for name in FORMATS}
    return TranscriptionOptions(
        language=args.language,
        task=args.task,
        beam_size=args.beam_size,
        batch_size=args.batch_size,
        vad=not args.no_vad,
        word_timestamps=not args.no_word_timestamps,
        compute_type=args.compute_type,
        initial_prompt=args.initial_prompt,
        formats=tuple(known[name] for name in formats),
    )


def choose_run_name(given: str | None, folder: OutputFolder) -> str:
    """The run's name, part of labels and Job names: as given, else as in the folder, else from the folder's path.

    A hash of the path keeps folders of the same name apart. InputError for a name that no Job could have.
    """
    if given is not None:
        if len(given) > MAX_RUN_NAME_LENGTH or not re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", given):
            rule = f"up to {MAX_RUN_NAME_LENGTH} of a-z, 0-9 and -, with a letter or digit at both ends"
            raise InputError(f"--run {given!r} cannot be the name of Jobs", remedy=rule)
        return given
    previous = load_struct(folder.run_file, Run)
    if previous is not None and previous.cluster is not None:
        return previous.name
    path = os.path.abspath(folder.root)
    slug = re.sub("[^a-z0-9]+", "-", os.path.basename(path).lower()).strip("-")[:40].strip("-")
    return f"{slug or 'run'}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:6]}"
