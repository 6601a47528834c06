"""`epp-batch report`: what a run came to, on the terminal, as a page, and for machines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from epp_batch.errors import FolderError, InputError

if TYPE_CHECKING:
    from epp_batch.report import DevicePrices, Report
    from epp_batch.spec import Run

HELP = "makespan, latencies, speed, GPU-hours, cost, word errors and a chart of a run; alone or against another"
FORMATS = ("text", "markdown", "json", "csv")
SUFFIXES = (".html", ".svg", ".md", ".json", ".csv")
DEFAULT_PAGE = "report.html"
DEFAULT_COLUMNS = 120
"""Columns where nobody tells how many there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT", help="folder of a run, finished or not")
    parser.add_argument(
        "--against", metavar="OUTPUT",
        help="folder of the run to compare with; or a file of events of this run that plan --run OUTPUT --events wrote",
    )  # fmt: skip
    parser.add_argument(
        "--price", action="append", default=[], metavar="[WHAT=]AMOUNT",
        help="of a GPU hour; slices cost their part. MODEL=AMOUNT for a model on another GPU, worker=AMOUNT for an "
        "hour of a process without one",
    )  # fmt: skip
    parser.add_argument("--currency", default="USD", help="of the prices (default: %(default)s)")
    parser.add_argument("--no-wer", action="store_true", help="do not compare transcripts with references")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of standard output (default: %(default)s)")
    parser.add_argument(
        "-o", "--write", action="append", type=Path, metavar="FILE",
        help=f"write the report there, its suffix tells the form: {' '.join(SUFFIXES)}; give it again for others "
        f"(default with --format text: OUTPUT/{DEFAULT_PAGE})",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 also for a run in which something failed: it is the report that came about."""
    prices = parse_prices(args.price, args.currency)
    written = args.write or ([Path(args.folder) / DEFAULT_PAGE] if args.format == "text" else [])
    for path in written:
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: a report has no such form", remedy=f"end it with {' '.join(SUFFIXES)}")
    report = _read_report(args.folder, prices, args)
    other = _read_other_report(prices, args) if args.against else None
    if args.format == "text":
        _print_report(report, other)
    else:
        sys.stdout.write(_render_report(f".{args.format}", report, other))
    for path in written:
        _write_file(path, _render_report(path.suffix, report, other))
        print(f"wrote {path}", file=sys.stdout if args.format == "text" else sys.stderr)
    return 0


def _read_report(folder: str, prices: DevicePrices, args: argparse.Namespace) -> Report:
    """Says on standard error what it could not read."""
    from epp_batch.report import build_folder_report

    report, missing = build_folder_report(folder, prices, shares=folder_gpu_shares(folder), references=not args.no_wer)
    for line in missing:
        print(line, file=sys.stderr)
    return report


def _read_other_report(prices: DevicePrices, args: argparse.Namespace) -> Report:
    from epp_batch.report import build_planned_report

    if Path(args.against).is_file():
        return build_planned_report(args.folder, args.against, prices, shares=folder_gpu_shares(args.folder))
    return _read_report(args.against, prices, args)


def parse_prices(given: list[str], currency: str) -> DevicePrices:
    """Of `2.5`, `worker=0.1`, `large-v3=4`; InputError for anything else."""
    from epp_batch.report import DevicePrices

    gpu = worker = None
    models = {}
    for text in given:
        name, _, amount = text.rpartition("=")
        try:
            price = float(amount)
        except ValueError:
            price = -1.0
        if not 0 <= price < float("inf"):
            raise InputError(f"--price {text}", remedy="give an amount for an hour, e.g. 2.5 or large-v3=4.1")
        if not name:
            gpu = price
        elif name == "worker":
            worker = price
        else:
            models[name] = price
    return DevicePrices(gpu_hour=gpu, worker_hour=worker, gpu_hour_by_model=models, currency=currency)


def folder_gpu_shares(folder: str) -> dict[str, float]:
    """How many GPUs a unit of each model holds, as its placement says."""
    from epp_batch.output_folder import OutputFolder

    return gpu_shares(OutputFolder(folder).load_run())


def gpu_shares(run: Run) -> dict[str, float]:
    """By model; empty for a run without a cluster."""
    from epp_batch.manifests import accelerators

    if run.cluster is None:
        return {}
    models = dict.fromkeys(unit.model for unit in run.units)
    return {
        model: accelerators.parse_accelerator(run.cluster.placement_for(model).accelerator).slots / 8
        for model in models
    }


def _render_report(suffix: str, report: Report, other: Report | None) -> str:
    from epp_batch.report import render as forms

    if suffix == ".html":
        return forms.render_html(report, other)
    if suffix == ".svg":
        return forms.render_svg(report)
    if suffix in (".md", ".markdown"):
        return forms.render_markdown(report, other)
    return forms.render_json(report) if suffix == ".json" else forms.render_csv(report)


def _print_report(report: Report, other: Report | None) -> None:
    from rich.console import Console

    from epp_batch.report.render import terminal

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = DEFAULT_COLUMNS
    terminal.print_report(report, console, other)


def _write_file(path: Path, text: str) -> None:
    from epp_batch import output_folder

    try:
        output_folder.write_atomically(path, text.encode())
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}", remedy="free space on that disk") from error
