"""`epp-batch report`: figures and a chart of a run, on the terminal, as a page, and as data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from epp_batch.errors import FolderError, InputError
from epp_batch.manifests.accelerators import parse_accelerator
from epp_batch.output_folder import OutputFolder, write_atomically
from epp_batch.report import DevicePrices, Report, build_folder_report, build_planned_report, render
from epp_batch.spec import Run

FORMATS = ("text", "markdown", "json", "csv")
SUFFIXES = (".html", ".svg", ".md", ".json", ".csv")
DEFAULT_PAGE = "report.html"
DEFAULT_COLUMNS = 120
"""Width of the text if standard output is no terminal."""
SLOTS_PER_GPU = 8
"""MIG slots per GPU, in which `Accelerator.slots` counts; the planner, which has the same number, is not imported."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUTPUT", help="folder of a run, finished or not")
    parser.add_argument(
        "--against", metavar="OUTPUT",
        help="folder of the run to compare with; or a file of events of this run that plan --run OUTPUT --events wrote",
    )  # fmt: skip
    parser.add_argument(
        "--price", action="append", default=[], metavar="[WHAT=]AMOUNT",
        help="of a GPU hour; slices cost their share. MODEL=AMOUNT for a model on another GPU, worker=AMOUNT for an "
        "hour of a process without GPU",
    )  # fmt: skip
    parser.add_argument("--currency", default="USD", help="of the prices (default: %(default)s)")
    parser.add_argument("--no-wer", action="store_true", help="do not compare transcripts with references")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of standard output (default: %(default)s)")
    parser.add_argument(
        "-o", "--write", action="append", type=Path, metavar="FILE",
        help=f"write the report to FILE, in the format of its suffix: {' '.join(SUFFIXES)}; repeatable "
        f"(default with --format text: OUTPUT/{DEFAULT_PAGE})",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0, also for a run with failures: the report was made."""
    prices = parse_prices(args.price, args.currency)
    paths = args.write or ([Path(args.folder) / DEFAULT_PAGE] if args.format == "text" else [])
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: no report format has this suffix", remedy=f"use one of {' '.join(SUFFIXES)}")
    report = _read_report(args.folder, prices, args)
    other = _read_other_report(prices, args) if args.against else None
    if args.format == "text":
        _print_report(report, other)
    else:
        sys.stdout.write(_render_report(f".{args.format}", report, other))
    for path in paths:
        _write_file(path, _render_report(path.suffix, report, other))
        print(f"wrote {path}", file=sys.stdout if args.format == "text" else sys.stderr)
    return 0


def parse_prices(texts: list[str], currency: str) -> DevicePrices:
    """Prices from values as `2.5`, `worker=0.1`, `large-v3=4`; InputError for anything else."""
    gpu = worker = None
    models = {}
    for text in texts:
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
    """`gpu_shares` of the folder's run."""
    return gpu_shares(OutputFolder(folder).load_run())


def gpu_shares(run: Run) -> dict[str, float]:
    """GPUs that one Job holds, by model: 2, or 0.125 for the smallest slice. Empty for a run without a cluster."""
    if run.cluster is None:
        return {}
    models = dict.fromkeys(unit.model for unit in run.units)
    accelerators = {model: parse_accelerator(run.cluster.placement_for(model).accelerator) for model in models}
    return {model: accelerator.slots / SLOTS_PER_GPU for model, accelerator in accelerators.items()}


def _read_report(folder: str, prices: DevicePrices, args: argparse.Namespace) -> Report:
    """Prints on standard error what could not be read."""
    report, unreadable = build_folder_report(
        folder, prices, shares=folder_gpu_shares(folder), references=not args.no_wer
    )
    for line in unreadable:
        print(line, file=sys.stderr)
    return report


def _read_other_report(prices: DevicePrices, args: argparse.Namespace) -> Report:
    if Path(args.against).is_file():
        return build_planned_report(args.folder, args.against, prices, shares=folder_gpu_shares(args.folder))
    return _read_report(args.against, prices, args)


def _render_report(suffix: str, report: Report, other: Report | None) -> str:
    match suffix:
        case ".html":
            return render.render_html(report, other)
        case ".svg":
            return render.render_svg(report)
        case ".md" | ".markdown":  # the suffix of a file, or --format markdown
            return render.render_markdown(report, other)
        case ".json":
            return render.render_json(report)
    return render.render_csv(report)


def _print_report(report: Report, other: Report | None) -> None:
    # rich is needed for text output only
    from rich.console import Console

    from epp_batch.report.render import terminal

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = DEFAULT_COLUMNS
    terminal.print_report(report, console, other)


def _write_file(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}", remedy="free space on that disk") from error
