"""The report on a terminal: the verdict, a chart of blocks, the tables. Without a terminal the same without colours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from epp_batch.report import compare, words
from epp_batch.report.model import AttemptSpan, Report
from epp_batch.report.places import SLOTS_PER_GPU, parse_place
from epp_batch.report.render import scale, tables
from epp_batch.report.render.lanes import common_node_prefix, group_by_device
from epp_batch.report.render.tables import ReportTable
from epp_batch.report.step_function import Step

MODEL_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "bright_red", "bright_blue", "white")
TONE_STYLES = {"good": "green", "bad": "red"}
LEVEL_BLOCKS = " ▁▂▃▄▅▆▇█"
FAILURE_ENDINGS = ("evicted", "failed")
MAX_DEVICES, MAX_FAILURES = 24, 20
"""Devices and failures shown at most."""


def print_report(report: Report, console: Console, other: Report | None = None) -> None:
    """Everything but the single recordings; with `other`, compared with it."""
    console.print(Text.assemble((report.run, "bold"), "  ", (words.describe_when(report), "dim")))
    console.print(Text(words.summarize_report(report)), soft_wrap=True)
    if other is not None and (said := compare.summarize_comparison(report, other)):
        console.print(Text(said, style="bold"))
    for trouble in report.troubles[:MAX_FAILURES]:
        console.print(Text(f"  {trouble}", style="red"), soft_wrap=True)
    if len(report.troubles) > MAX_FAILURES:
        console.print(Text(f"  and {len(report.troubles) - MAX_FAILURES:,} more that failed", style="red"))
    _print_chart(report, console)
    shown = [] if other is None else [compare.build_comparison_table(report, other)]
    for table in (
        *shown,
        tables.build_latency_table(report),
        tables.build_model_table(report),
        tables.build_device_table(report),
    ):
        if table.rows:
            console.print()
            console.print(build_rich_table(fit_table(table, console)))
            if shown and table is shown[0] and table.note:
                console.print(Text(table.note, style="yellow"), soft_wrap=True)


def fit_table(table: ReportTable, console: Console) -> ReportTable:
    """Without the columns that may be spared, as far as there is no room for them."""
    for head in table.droppable_columns:
        widths = (max(map(cell_len, column)) + 2 for column in zip(table.headers, *_cell_texts(table), strict=True))
        if sum(widths) - 2 <= console.width:
            break
        table = table.without_column(head)
    return table


def _cell_texts(table: ReportTable) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def build_rich_table(table: ReportTable) -> Grid:
    """As rich draws it."""
    drawn = Grid(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, head in enumerate(table.headers):
        drawn.add_column(head, justify="left" if index < table.text_columns else "right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(cell.text, style=TONE_STYLES.get(cell.tone, "")) for cell in row))
    return drawn


def _print_chart(report: Report, console: Console) -> None:
    """A line for each device, as far as there is room, and the curve of how many ran."""
    found = group_by_device(report.spans)
    if not found or not report.length:
        return
    prefix = common_node_prefix([group.device for group in found])
    names = [(group.device.removeprefix(prefix) or "not told")[-24:] for group in found]
    left = max(map(len, [*names[:MAX_DEVICES], "running"])) + 2
    width = max(20, min(console.width - left - 6, 100))
    colours = {one.model: MODEL_COLOURS[index % len(MODEL_COLOURS)] for index, one in enumerate(report.models)}
    legend = [(f"■ {model}   ", colour) for model, colour in colours.items()]
    if any(span.ending in FAILURE_ENDINGS for span in report.spans):
        legend.append(("× evicted or failed", "red"))
    lines = [Text.assemble(*legend)]
    for group, name in list(zip(found, names, strict=True))[:MAX_DEVICES]:
        spans = [bar.span for bar in group.bars]
        lines.append(
            Text.assemble(
                (name.ljust(left), "dim"), *_merge_styles(_device_cells(spans, report.length, width, colours))
            )
        )
    if len(found) > MAX_DEVICES:
        lines.append(Text(f"and {len(found) - MAX_DEVICES:,} more", style="dim"))
    most = report.concurrency.peak or 1
    levels = "".join(
        LEVEL_BLOCKS[-(-8 * level // most)] for level in sample_peaks(report.concurrency.running, report.length, width)
    )
    lines.append(Text.assemble(("running".ljust(left), "dim"), levels, (f" {most:,}", "dim")))
    lines.append(Text(" " * left + _tick_line(report.length, width), style="dim"))
    console.print()
    for line in lines:
        line.rstrip()
        console.print(line, no_wrap=True, overflow="crop")


def _device_cells(
    spans: Sequence[AttemptSpan], length: float, width: int, colours: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """How much of the device was held in each cell's time, in the colour of who held most; × for a failure in it."""
    step = length / width
    held: list[defaultdict[str, float]] = [defaultdict(float) for _ in range(width)]
    failed = {min(width - 1, int(span.ended / step)) for span in spans if span.ending in FAILURE_ENDINGS}
    for span in spans:
        slots = parse_place(span.place).slots
        weight = (slots[1] - slots[0] + 1) / SLOTS_PER_GPU if slots else 1.0
        for cell in range(min(width - 1, int(span.allocated / step)), min(width - 1, int(span.ended / step)) + 1):
            part = min(span.ended, (cell + 1) * step) - max(span.allocated, cell * step)
            held[cell][span.model] += max(0.0, part) / step * weight
    for cell, models in enumerate(held):
        level = min(8, round(8 * min(1.0, sum(models.values()))))
        model = max(models, key=models.__getitem__, default="")
        yield ("×", "red") if cell in failed else (LEVEL_BLOCKS[level], colours.get(model, ""))


def _merge_styles(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one style in one piece."""
    return [("".join(text for text, _ in run), style) for style, run in groupby(cells, key=lambda cell: cell[1])]


def sample_peaks(steps: Sequence[Step], length: float, width: int) -> list[int]:
    """The highest level in each of `width` equal parts."""
    found = [0] * width
    for (at, level), (end, _) in pairwise(steps):
        first, last = int(at / length * width), int(end / length * width - 1e-9)
        for cell in range(first, min(width - 1, last) + 1):
            found[cell] = max(found[cell], level)
    return found


def _tick_line(length: float, width: int) -> str:
    line = [" "] * (width + 10)
    for tick in scale.tick_times(length, max(2, width // 14)):
        label = scale.format_tick(tick, length)
        start = int(tick / length * width)
        line[start : start + len(label)] = label
    return "".join(line).rstrip()
