"""The comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.paper.arms import NATIVE, ArmResult
from bench.paper.orders import PAPER_MAKESPAN_CHANGE, NativeOrders, RatioFit
from epp_batch.planner import TimelineStats


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column to the left."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:]])


def format_minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def format_change(now: float, before: float) -> str:
    """In per cent, with a sign."""
    return f"{100 * (now / before - 1):+.0f} %".replace("-", "−").replace("+0 %", "0 %").replace("−0 %", "0 %")


def build_main_table(paper: Mapping[str, ArmResult], batched: Mapping[str, ArmResult]) -> str:
    """All arms; the two right columns are of another worker and compare with nothing to their left."""
    base, fast = paper[NATIVE].stats, batched[NATIVE].stats
    head = (
        "arm", "makespan", "", "over its bound", "mean completion", "", "P50", "P95", "P99", "at once", "preempted",
        "*batched: makespan*", "*mean*",
    )  # fmt: skip
    rows = []
    for name, found in paper.items():
        got, other = found.stats, batched[name].stats
        rows.append(
            (
                f"**{name}**" if found.arm.ours else name,
                format_minutes(got.makespan), format_change(got.makespan, base.makespan),
                f"{max(0.0, 100 * (got.makespan / found.bound - 1)):.1f} %",
                format_minutes(got.mean), format_change(got.mean, base.mean),
                format_minutes(got.p50), format_minutes(got.p95), format_minutes(got.p99),
                str(got.peak), str(got.preemptions),
                f"*{format_minutes(other.makespan)} ({format_change(other.makespan, fast.makespan)})*",
                f"*{format_minutes(other.mean)} ({format_change(other.mean, fast.mean)})*",
            )
        )  # fmt: skip
    return markdown_table(head, rows)


def build_orders_table(orders: NativeOrders) -> str:
    """What the paper's best queue gains against each starting order of the plain scheduler."""
    rows = [
        (name, format_minutes(span), format_change(orders.best_queue, span)) for name, span in orders.by_name.items()
    ]
    rows.append(("at random, mean", format_minutes(orders.mean), format_change(orders.best_queue, orders.mean)))
    for share in (50, 75, 90):
        span = orders.shuffled[len(orders.shuffled) * share // 100]
        rows.append((f"at random, P{share}", format_minutes(span), format_change(orders.best_queue, span)))
    return markdown_table(("native order", "makespan", "Kueue C against it"), rows)


def build_ratios_table(ratios: Sequence[RatioFit]) -> str:
    rows = [
        (
            f"{one.ratio:g}", f"{one.medium:.3f} / {one.medium * one.ratio:.3f}", format_minutes(one.native),
            format_minutes(one.best_queue), format_change(one.best_queue, one.native),
            format_change(one.longest, one.native),
        )
        for one in ratios
    ]  # fmt: skip
    head = ("large over medium", "factors", "native", "Kueue C", "", "longest first")
    return markdown_table(head, rows)


def closest_ratio(ratios: Sequence[RatioFit]) -> RatioFit:
    """The ratio whose gain is nearest to the paper's."""
    return min(ratios, key=lambda one: abs(one.best_queue / one.native - 1 - PAPER_MAKESPAN_CHANGE))


def build_real_table(
    ideal: Mapping[str, ArmResult], delayed: Mapping[str, ArmResult], real: Mapping[str, TimelineStats]
) -> str:
    """Prediction without and with the control plane's own time against what happened."""
    rows = []
    for name, got in real.items():
        first, second = ideal[name].stats, delayed[name].stats
        rows.append(
            (
                name, format_minutes(first.makespan), format_minutes(second.makespan), format_minutes(got.makespan),
                format_change(got.makespan, second.makespan), format_minutes(first.mean),
                format_minutes(second.mean), format_minutes(got.mean),
                format_change(got.mean, second.mean), f"{second.peak} / {got.peak}",
                f"{second.preemptions} / {got.preemptions}",
            )
        )  # fmt: skip
    head = (
        "arm", "makespan: model", "with delays", "real", "real / model", "mean: model", "with delays", "real",
        "real / model", "at once", "preempted",
    )  # fmt: skip
    return markdown_table(head, rows)
