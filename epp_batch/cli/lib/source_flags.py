"""Flags that `submit` and `transcribe` share, and what they mean."""

from __future__ import annotations

import argparse
import hashlib
import os
import re

from epp_batch.cli.lib import summary_flags
from epp_batch.errors import InputError
from epp_batch.output_folder import OutputFolder, load_struct
from epp_batch.spec import FORMATS, Run, TranscriptFormat, TranscriptionOptions

SUBMISSION_ORDERS = ("submission", "longest", "slots")


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """SOURCE… and the output folder."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="audio file, folder, glob in quotes, http(s) URL, or a manifest (.csv .tsv .jsonl: one row a recording, "
        "with a column source and, if you like, model, stem, reference, seconds)",
    )
    group = parser.add_argument_group("files")
    group.add_argument("--output", "-o", required=True, metavar="DIR", help="folder of the transcripts and of the run")
    group.add_argument(
        "--relative-to", metavar="DIR", help="name outputs by their path below DIR instead of below each SOURCE"
    )
    group.add_argument(
        "--references", metavar="DIR", help="DIR/<name>.txt are texts by people, for the word error rate"
    )
    group.add_argument("--no-probe", action="store_true", help="do not open the files to learn their lengths")
    group.add_argument("--force", action="store_true", help="do again what is finished")
    group.add_argument("--retry-failed", action="store_true", help="try again what failed for good")
    group.add_argument(
        "--run", dest="run_name", metavar="NAME", help="name of the run (default: made from the output folder's path)"
    )


def add_model_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Which model for which recording, and where its weights lie."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="RULE",
        help=f"NAME for all; 'GLOB=NAME' by path; '>30m=NAME' or '<90s=NAME' by length. Repeatable: the first that "
        f"fits counts, a bare NAME last (default {default})",
    )
    group.add_argument(
        "--model-path",
        action="append",
        default=[],
        metavar="[MODEL=]PATH",
        help="folder of a CTranslate2 Whisper model, as the worker sees it",
    )
    group.add_argument("--fetch-model", action="store_true", help="let each worker download a model it does not find")
    parser.set_defaults(default_model=default)


def add_whisper_flags(parser: argparse.ArgumentParser) -> None:
    """How Whisper is run: the fields of work.Options."""
    group = parser.add_argument_group("transcription")
    add, default = group.add_argument, TranscriptionOptions()
    add("--language", metavar="CODE", help="as en or de (default: detected for each recording)")
    add("--task", choices=("transcribe", "translate"), default=default.task, help="translate: into English")
    add("--beam-size", type=parse_positive_int, default=default.beam_size, metavar="N", help="default %(default)s")
    add(
        "--batch-size",
        type=parse_positive_int,
        default=default.batch_size,
        metavar="N",
        help="chunks at once; 1 is the sequential pipeline (default %(default)s)",
    )
    add("--no-vad", action="store_true", help="do not skip what the voice detector takes for silence")
    add("--no-word-timestamps", action="store_true", help="times of segments only")
    add(
        "--compute-type",
        default=default.compute_type,
        metavar="TYPE",
        help="int8, float16 … (default: 16 bits; 8 on CPUs)",
    )
    add("--initial-prompt", metavar="TEXT", help="names and terms that Whisper should expect")
    add("--formats", default=",".join(FORMATS), metavar="LIST", help="default %(default)s")
    add(
        "--max-seconds",
        type=parse_duration,
        metavar="TIME",
        help="give up on a recording after this long (90, 90s, 2h)",
    )


def add_order_flags(parser: argparse.ArgumentParser) -> None:
    """What comes first, and what goes together."""
    group = parser.add_argument_group("order")
    group.add_argument(
        "--order",
        choices=SUBMISSION_ORDERS,
        default="longest",
        help="submission: as given; longest: long recordings first, for an early end of the whole; slots: packed onto "
        "slices, for the most at once (default %(default)s)",
    )
    group.add_argument(
        "--shard-seconds",
        type=parse_duration,
        metavar="TIME",
        help="put short recordings of one model together up to this much audio (default: one recording a unit)",
    )


def add_summary_flags(parser: argparse.ArgumentParser) -> None:
    """Where transcripts go as soon as they land; _summaries.summarizer makes something of them."""
    summary_flags.add_summary_flags(parser)


def parse_whisper_options(args: argparse.Namespace) -> TranscriptionOptions:
    """The flags of `add_whisper`; InputError for what Whisper cannot do."""
    formats = tuple(dict.fromkeys(part.strip() for part in args.formats.split(",") if part.strip()))
    if not formats or (unknown := [name for name in formats if name not in FORMATS]):
        wrong = ", ".join(unknown) if formats else "none given"
        raise InputError(f"--formats: {wrong}", remedy=f"choose from {', '.join(FORMATS)}")
    if args.language is not None and not re.fullmatch("[a-z]{2,3}", args.language):
        raise InputError(f"--language {args.language}", remedy="give a code as en, de or yue")
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


def parse_per_model(flag: str, texts: list[str]) -> dict[str, str]:
    """`[MODEL=]VALUE` of a repeatable flag as {model: value}, "*" for all others; InputError for a second value."""
    values: dict[str, str] = {}
    for text in texts:
        model, sign, value = text.partition("=")
        if not sign or model.startswith(("/", ".", "~")):  # a path may have a sign of its own
            model, value = "*", text
        if not model or not value:
            raise InputError(f"{flag} {text}", remedy="give VALUE or MODEL=VALUE")
        if values.setdefault(model, value) != value:
            whom = "all models" if model == "*" else f"model {model}"
            raise InputError(f"{flag}: two values for {whom}: {values[model]} and {value}", remedy="give one")
    return values


MAX_RUN_NAME_LENGTH = 50
"""Of a run: a Job's name has 13 characters more, and at most 63."""


def choose_run_name(given: str | None, folder: OutputFolder) -> str:
    """The run's name, for labels and for names of Jobs: as given, as it was, or by the output folder's path.

    Folders of one name in two places make two runs. InputError for a name that no Job could have.
    """
    if given is not None:
        if len(given) > MAX_RUN_NAME_LENGTH or not re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", given):
            rule = f"up to {MAX_RUN_NAME_LENGTH} of a-z, 0-9 and -, with a letter or digit at both ends"
            raise InputError(f"--run {given!r} cannot be the name of Jobs", remedy=rule)
        return given
    before = load_struct(folder.run_file, Run)
    if before is not None and before.cluster is not None:
        return before.name
    path = os.path.abspath(folder.root)
    slug = re.sub("[^a-z0-9]+", "-", os.path.basename(path).lower()).strip("-")[:40].strip("-")
    return f"{slug or 'run'}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:6]}"


_TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds above 0 of `90`, `90s`, `1.5h`; for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time: 90, 90s, 15m, 2h")
    return float(match[1]) * _TIME_UNITS[match[2]]


def parse_positive_int(text: str) -> int:
    """A whole number from 1; for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
