"""docs/paper.md, written by the bench that made its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.paper import charts, tables
from bench.paper.arms import BEST_QUEUE, DAS, NATIVE, Found
from bench.paper.orders import Orders, Ratio
from bench.paper.tables import change, minutes

WHOLE, SAME, CHOSEN = "ours, whole GPUs", "ours, same slices", "ours, slices chosen"
CHARTS = (NATIVE, DAS, CHOSEN)

TEXT = Path(__file__).with_name("page.md")
"""The page with holes for numbers and tables."""


def write(
    docs: Path,
    paper: Mapping[str, Found],
    orders: Orders,
    ratios: Sequence[Ratio],
    parts: Mapping[str, str],
    scale: float,
) -> None:
    """The page and its charts."""
    longest = max(paper[name].figures.makespan for name in CHARTS)
    for name in CHARTS:
        charts.write(docs / f"paper-{charts.slug(name)}.svg", paper[name], longest)
    holes = {"real": "Not played in this run.", **parts, **_values(paper), **_readings(paper, orders, ratios)}
    text = TEXT.read_text(encoding="utf-8").format(**holes, scale=scale)
    (docs / "paper.md").write_text(text, encoding="utf-8")


def _values(paper: Mapping[str, Found]) -> dict[str, object]:
    native, das = paper[NATIVE].figures, paper[DAS].figures
    whole, same, chosen = (paper[name].figures for name in (WHOLE, SAME, CHOSEN))
    return {
        "native_peak": native.peak,
        "das_peak": das.peak,
        "native_mean": minutes(native.mean),
        "das_mean": minutes(das.mean),
        "das_change": change(das.mean, native.mean),
        "queue_change": change(paper[BEST_QUEUE].figures.makespan, native.makespan),
        "whole_makespan": change(whole.makespan, native.makespan),
        "whole_mean": change(whole.mean, native.mean),
        "c_mean": change(paper[BEST_QUEUE].figures.mean, native.mean),
        "same_mean": minutes(same.mean),
        "chosen_makespan": change(chosen.makespan, native.makespan),
        "chosen_mean": change(chosen.mean, native.mean),
        "chosen_span": minutes(chosen.makespan),
        "chosen_avg": minutes(chosen.mean),
        "wide": sum(demand.shape.profile == "7g.40gb" for demand in paper[CHOSEN].order),
    }


def _readings(paper: Mapping[str, Found], orders: Orders, ratios: Sequence[Ratio]) -> dict[str, object]:
    nearest, native = tables.closest(ratios), paper[NATIVE]
    return {
        "bound": minutes(native.bound),
        "bound_change": change(native.bound, native.figures.makespan).lstrip("−"),
        "count": f"{len(orders.shuffled):,}",
        "random_change": change(orders.best_queue, orders.mean),
        "share": f"{100 * orders.share_beyond:.0f} %",
        "closest": f"{nearest.ratio:g}",
        "closest_change": change(nearest.best_queue, nearest.native),
    }
