"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.paper.arms import NATIVE, ArmResult
from bench.paper.orders import PAPER_MAKESPAN_CHANGE, NativeOrders, RatioFit
from epp_batch.planner import TimelineStats


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is aligned left and the others right."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|---" + "|--:" * (len(header) - 1) + "|", *lines[1:]])


def format_minutes(seconds: float) -> str:
    """Minutes with one decimal."""
    return f"{seconds / 60:.1f}"


def format_change(now: float, before: float) -> str:
    """The relative change in per cent, with a sign."""
    return f"{100 * (now / before - 1):+.0f} %".replace("-", "−").replace("+0 %", "0 %").replace("−0 %", "0 %")


def build_main_table(paper: Mapping[str, ArmResult], batched: Mapping[str, ArmResult]) -> str:
    """All arms; the last two columns are of a batched worker, and compare with each other only."""
    base, fast = paper[NATIVE].stats, batched[NATIVE].stats
    header = (
        "arm", "makespan", "", "over its bound", "mean completion", "", "P50", "P95", "P99", "at once", "preempted",
        "*batched: makespan*", "*mean*",
    )  # fmt: skip
    rows = []
    for name, result in paper.items():
        stats, batched_stats = result.stats, batched[name].stats
        rows.append(
            (
                f"**{name}**" if result.arm.ours else name,
                format_minutes(stats.makespan), format_change(stats.makespan, base.makespan),
                f"{max(0.0, 100 * (stats.makespan / result.bound - 1)):.1f} %",
                format_minutes(stats.mean), format_change(stats.mean, base.mean),
                format_minutes(stats.p50), format_minutes(stats.p95), format_minutes(stats.p99),
                str(stats.peak), str(stats.preemptions),
                f"*{format_minutes(batched_stats.makespan)} ({format_change(batched_stats.makespan, fast.makespan)})*",
                f"*{format_minutes(batched_stats.mean)} ({format_change(batched_stats.mean, fast.mean)})*",
            )
        )  # fmt: skip
    return markdown_table(header, rows)


def build_orders_table(orders: NativeOrders) -> str:
    """The paper's best queue against each starting order of the default scheduler."""
    rows = [
        (name, format_minutes(makespan), format_change(orders.best_queue, makespan))
        for name, makespan in orders.by_name.items()
    ]
    rows.append(("at random, mean", format_minutes(orders.mean), format_change(orders.best_queue, orders.mean)))
    for share in (50, 75, 90):
        makespan = orders.shuffled[len(orders.shuffled) * share // 100]
        rows.append((f"at random, P{share}", format_minutes(makespan), format_change(orders.best_queue, makespan)))
    return markdown_table(("native order", "makespan", "Kueue C against it"), rows)


def build_ratios_table(ratios: Sequence[RatioFit]) -> str:
    """The paper's best queue and longest first at each ratio between the models."""
    rows = [
        (
            f"{fit.ratio:g}", f"{fit.medium:.3f} / {fit.medium * fit.ratio:.3f}", format_minutes(fit.native),
            format_minutes(fit.best_queue), format_change(fit.best_queue, fit.native),
            format_change(fit.longest, fit.native),
        )
        for fit in ratios
    ]  # fmt: skip
    header = ("large over medium", "factors", "native", "Kueue C", "", "longest first")
    return markdown_table(header, rows)


def closest_ratio(ratios: Sequence[RatioFit]) -> RatioFit:
    """The ratio whose change is nearest to the paper's."""
    return min(ratios, key=lambda fit: abs(fit.best_queue / fit.native - 1 - PAPER_MAKESPAN_CHANGE))


def build_real_table(
    ideal: Mapping[str, ArmResult], delayed: Mapping[str, ArmResult], real: Mapping[str, TimelineStats]
) -> str:
    """Simulated without and with the control plane's delays, against the real run."""
    rows = []
    for name, measured in real.items():
        simulated, with_delays = ideal[name].stats, delayed[name].stats
        rows.append(
            (
                name, format_minutes(simulated.makespan), format_minutes(with_delays.makespan),
                format_minutes(measured.makespan), format_change(measured.makespan, with_delays.makespan),
                format_minutes(simulated.mean), format_minutes(with_delays.mean), format_minutes(measured.mean),
                format_change(measured.mean, with_delays.mean), f"{with_delays.peak} / {measured.peak}",
                f"{with_delays.preemptions} / {measured.preemptions}",
            )
        )  # fmt: skip
    header = (
        "arm", "makespan: model", "with delays", "real", "real / model", "mean: model", "with delays", "real",
        "real / model", "at once", "preempted",
    )  # fmt: skip
    return markdown_table(header, rows)
