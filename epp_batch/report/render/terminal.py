"""Prints a report on a terminal: summary, a chart of block characters, tables. Without colours where it is a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from epp_batch.report.model import AttemptSpan, Report
from epp_batch.report.places import SLOTS_PER_GPU, parse_place
from epp_batch.report.render import tables, text
from epp_batch.report.render.comparison import build_comparison_table, summarize_comparison
from epp_batch.report.render.layout import common_node_prefix, format_tick, group_by_device, tick_times
from epp_batch.report.render.tables import ReportTable
from epp_batch.report.stats import Step

MODEL_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "bright_red", "bright_blue", "white")
TONE_STYLES = {"good": "green", "bad": "red"}
LEVEL_BLOCKS = " ▁▂▃▄▅▆▇█"
FAILURE_ENDINGS = ("evicted", "failed")
MAX_DEVICES, MAX_FAILURES = 24, 20


def print_report(report: Report, console: Console, other: Report | None = None) -> None:
    """Everything but the single recordings; with `other`, compared with that run."""
    console.print(Text.assemble((report.run, "bold"), "  ", (text.describe_when(report), "dim")))
    console.print(Text(text.summarize_report(report)), soft_wrap=True)
    if other is not None and (comparison := summarize_comparison(report, other)):
        console.print(Text(comparison, style="bold"))
    for failure in report.troubles[:MAX_FAILURES]:
        console.print(Text(f"  {failure}", style="red"), soft_wrap=True)
    if len(report.troubles) > MAX_FAILURES:
        console.print(Text(f"  and {len(report.troubles) - MAX_FAILURES:,} more that failed", style="red"))
    _print_chart(report, console)
    if other is not None:
        table = build_comparison_table(report, other)
        _print_table(table, console)
        if table.rows and table.note:
            console.print(Text(table.note, style="yellow"), soft_wrap=True)
    for table in (
        tables.build_latency_table(report),
        tables.build_model_table(report),
        tables.build_device_table(report),
    ):
        _print_table(table, console)


def _print_table(table: ReportTable, console: Console) -> None:
    if table.rows:
        console.print()
        console.print(build_rich_table(fit_table(table, console)))


def fit_table(table: ReportTable, console: Console) -> ReportTable:
    """The table without as many of its droppable columns as it takes to fit the console's width."""
    for header in table.droppable_columns:
        cell_texts = [[cell.text for cell in row] for row in table.rows]
        widths = (max(map(cell_len, column)) + 2 for column in zip(table.headers, *cell_texts, strict=True))
        if sum(widths) - 2 <= console.width:
            break
        table = table.without_column(header)
    return table


def build_rich_table(table: ReportTable) -> Table:
    """The table as rich prints it."""
    rich_table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, header in enumerate(table.headers):
        rich_table.add_column(header, justify="left" if index < table.text_columns else "right", no_wrap=True)
    for row in table.rows:
        rich_table.add_row(*(Text(cell.text, style=TONE_STYLES.get(cell.tone, "")) for cell in row))
    return rich_table


def _print_chart(report: Report, console: Console) -> None:
    """A legend, a line for each of the first MAX_DEVICES devices, the number of running units, and the ticks."""
    groups = group_by_device(report.spans)
    if not groups or not report.length:
        return
    node_prefix = common_node_prefix([group.device for group in groups])
    names = [(group.device.removeprefix(node_prefix) or "unknown device")[-24:] for group in groups]
    left = max(map(len, [*names[:MAX_DEVICES], "running"])) + 2
    width = max(20, min(console.width - left - 6, 100))
    colours = {row.model: MODEL_COLOURS[index % len(MODEL_COLOURS)] for index, row in enumerate(report.models)}
    legend = [(f"■ {model}   ", colour) for model, colour in colours.items()]
    if any(span.ending in FAILURE_ENDINGS for span in report.spans):
        legend.append(("× evicted or failed", "red"))
    lines = [Text.assemble(*legend)]
    for group, name in list(zip(groups, names, strict=True))[:MAX_DEVICES]:
        cells = _device_cells([bar.span for bar in group.bars], report.length, width, colours)
        lines.append(Text.assemble((name.ljust(left), "dim"), *_merge_styles(cells)))
    if len(groups) > MAX_DEVICES:
        lines.append(Text(f"and {len(groups) - MAX_DEVICES:,} more", style="dim"))
    peak = report.concurrency.peak or 1
    levels = sample_peaks(report.concurrency.running, report.length, width)
    blocks = "".join(LEVEL_BLOCKS[-(-8 * level // peak)] for level in levels)
    lines.append(Text.assemble(("running".ljust(left), "dim"), blocks, (f" {peak:,}", "dim")))
    lines.append(Text(" " * left + _tick_line(report.length, width), style="dim"))
    console.print()
    for line in lines:
        line.rstrip()
        console.print(line, no_wrap=True, overflow="crop")


def _device_cells(
    spans: Sequence[AttemptSpan], length: float, width: int, colours: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """A character and its style for each of `width` equal parts of the time.

    A block as high as the share of the device that was held, in the colour of the model that held most of it; a cross
    where an attempt was evicted or failed.
    """
    step = length / width
    held: list[defaultdict[str, float]] = [defaultdict(float) for _ in range(width)]
    failed = {min(width - 1, int(span.ended / step)) for span in spans if span.ending in FAILURE_ENDINGS}
    for span in spans:
        slots = parse_place(span.place).slots
        share = (slots[1] - slots[0] + 1) / SLOTS_PER_GPU if slots else 1.0
        for cell in range(min(width - 1, int(span.allocated / step)), min(width - 1, int(span.ended / step)) + 1):
            overlap = min(span.ended, (cell + 1) * step) - max(span.allocated, cell * step)
            held[cell][span.model] += max(0.0, overlap) / step * share
    for cell, shares in enumerate(held):
        level = min(8, round(8 * min(1.0, sum(shares.values()))))
        model = max(shares, key=shares.__getitem__, default="")
        yield ("×", "red") if cell in failed else (LEVEL_BLOCKS[level], colours.get(model, ""))


def _merge_styles(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Joins neighbours of the same style."""
    return [
        ("".join(character for character, _ in run), style) for style, run in groupby(cells, key=lambda cell: cell[1])
    ]


def sample_peaks(steps: Sequence[Step], length: float, width: int) -> list[int]:
    """The highest number of a step function in each of `width` equal parts of the time."""
    peaks = [0] * width
    for (at, level), (end, _) in pairwise(steps):
        first, last = int(at / length * width), int(end / length * width - 1e-9)
        for cell in range(first, min(width - 1, last) + 1):
            peaks[cell] = max(peaks[cell], level)
    return peaks


def _tick_line(length: float, width: int) -> str:
    line = [" "] * (width + 10)
    for tick in tick_times(length, max(2, width // 14)):
        label = format_tick(tick, length)
        start = int(tick / length * width)
        line[start : start + len(label)] = label
    return "".join(line).rstrip()
