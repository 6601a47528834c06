"""Writes docs/paper.md and its charts from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.paper import charts, tables
from bench.paper.arms import BEST_QUEUE, DAS, NATIVE, ArmResult
from bench.paper.orders import NativeOrders, RatioFit
from bench.paper.tables import format_change, format_minutes

OURS_WHOLE_GPUS, OURS_SAME_SLICES, OURS_CHOSEN_SLICES = "ours, whole GPUs", "ours, same slices", "ours, slices chosen"
CHARTS = (NATIVE, DAS, OURS_CHOSEN_SLICES)

TEMPLATE = Path(__file__).with_name("page.md")
"""The page, with replacement fields for figures and tables."""


def write_page(
    docs: Path,
    paper: Mapping[str, ArmResult],
    orders: NativeOrders,
    ratios: Sequence[RatioFit],
    parts: Mapping[str, str],
    scale: float,
) -> None:
    """Writes the page and its charts into `docs`; `parts` are the tables by replacement field."""
    longest = max(paper[name].stats.makespan for name in CHARTS)
    for name in CHARTS:
        charts.write_chart(docs / f"paper-{charts.file_slug(name)}.svg", paper[name], longest)
    fields = {
        "real": "Not run on a control plane this time.",
        **parts,
        **_result_values(paper),
        **_interpretation_values(paper, orders, ratios),
    }
    text = TEMPLATE.read_text(encoding="utf-8").format(**fields, scale=scale)
    (docs / "paper.md").write_text(text, encoding="utf-8")


def _result_values(paper: Mapping[str, ArmResult]) -> dict[str, object]:
    native, das = paper[NATIVE].stats, paper[DAS].stats
    whole, same, chosen = (paper[name].stats for name in (OURS_WHOLE_GPUS, OURS_SAME_SLICES, OURS_CHOSEN_SLICES))
    return {
        "native_peak": native.peak,
        "das_peak": das.peak,
        "native_mean": format_minutes(native.mean),
        "das_mean": format_minutes(das.mean),
        "das_change": format_change(das.mean, native.mean),
        "queue_change": format_change(paper[BEST_QUEUE].stats.makespan, native.makespan),
        "whole_makespan": format_change(whole.makespan, native.makespan),
        "whole_mean": format_change(whole.mean, native.mean),
        "c_mean": format_change(paper[BEST_QUEUE].stats.mean, native.mean),
        "same_mean": format_minutes(same.mean),
        "chosen_makespan": format_change(chosen.makespan, native.makespan),
        "chosen_mean": format_change(chosen.mean, native.mean),
        "chosen_span": format_minutes(chosen.makespan),
        "chosen_avg": format_minutes(chosen.mean),
        "wide": sum(job.accelerator.mig_profile == "7g.40gb" for job in paper[OURS_CHOSEN_SLICES].order),
    }


def _interpretation_values(
    paper: Mapping[str, ArmResult], orders: NativeOrders, ratios: Sequence[RatioFit]
) -> dict[str, object]:
    nearest, native = tables.closest_ratio(ratios), paper[NATIVE]
    return {
        "bound": format_minutes(native.bound),
        "bound_change": format_change(native.bound, native.stats.makespan).lstrip("−"),
        "count": f"{len(orders.shuffled):,}",
        "random_change": format_change(orders.best_queue, orders.mean),
        "share": f"{100 * orders.share_reaching_paper_change:.0f} %",
        "closest": f"{nearest.ratio:g}",
        "closest_change": format_change(nearest.best_queue, nearest.native),
    }
