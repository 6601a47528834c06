"""The comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.paper.arms import NATIVE, Found
from bench.paper.orders import GOAL, Orders, Ratio
from epp_batch.planner import Outcome


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column to the left."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:]])


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"


def change(now: float, before: float) -> str:
    """In per cent, with a sign."""
    return f"{100 * (now / before - 1):+.0f} %".replace("-", "−").replace("+0 %", "0 %").replace("−0 %", "0 %")


def main_table(paper: Mapping[str, Found], batched: Mapping[str, Found]) -> str:
    """All arms; the two right columns are of another worker and compare with nothing to their left."""
    base, fast = paper[NATIVE].figures, batched[NATIVE].figures
    head = (
        "arm", "makespan", "", "over its bound", "mean completion", "", "P50", "P95", "P99", "at once", "preempted",
        "*batched: makespan*", "*mean*",
    )  # fmt: skip
    rows = []
    for name, found in paper.items():
        got, other = found.figures, batched[name].figures
        rows.append(
            (
                f"**{name}**" if found.arm.ours else name,
                minutes(got.makespan), change(got.makespan, base.makespan),
                f"{max(0.0, 100 * (got.makespan / found.bound - 1)):.1f} %",
                minutes(got.mean), change(got.mean, base.mean),
                minutes(got.p50), minutes(got.p95), minutes(got.p99), str(got.peak), str(got.preemptions),
                f"*{minutes(other.makespan)} ({change(other.makespan, fast.makespan)})*",
                f"*{minutes(other.mean)} ({change(other.mean, fast.mean)})*",
            )
        )  # fmt: skip
    return table(head, rows)


def orders_table(orders: Orders) -> str:
    """What the paper's best queue gains against each starting order of the plain scheduler."""
    rows = [(name, minutes(span), change(orders.best_queue, span)) for name, span in orders.named.items()]
    rows.append(("at random, mean", minutes(orders.mean), change(orders.best_queue, orders.mean)))
    for share in (50, 75, 90):
        span = orders.shuffled[len(orders.shuffled) * share // 100]
        rows.append((f"at random, P{share}", minutes(span), change(orders.best_queue, span)))
    return table(("native order", "makespan", "Kueue C against it"), rows)


def ratios_table(ratios: Sequence[Ratio]) -> str:
    rows = [
        (
            f"{one.ratio:g}", f"{one.medium:.3f} / {one.medium * one.ratio:.3f}", minutes(one.native),
            minutes(one.best_queue), change(one.best_queue, one.native), change(one.longest, one.native),
        )
        for one in ratios
    ]  # fmt: skip
    head = ("large over medium", "factors", "native", "Kueue C", "", "longest first")
    return table(head, rows)


def closest(ratios: Sequence[Ratio]) -> Ratio:
    """The ratio whose gain is nearest to the paper's."""
    return min(ratios, key=lambda one: abs(one.best_queue / one.native - 1 - GOAL))


def real_table(ideal: Mapping[str, Found], delayed: Mapping[str, Found], real: Mapping[str, Outcome]) -> str:
    """Prediction without and with the control plane's own time against what happened."""
    rows = []
    for name, got in real.items():
        first, second = ideal[name].figures, delayed[name].figures
        rows.append(
            (
                name, minutes(first.makespan), minutes(second.makespan), minutes(got.makespan),
                change(got.makespan, second.makespan), minutes(first.mean), minutes(second.mean), minutes(got.mean),
                change(got.mean, second.mean), f"{second.peak} / {got.peak}",
                f"{second.preemptions} / {got.preemptions}",
            )
        )  # fmt: skip
    head = (
        "arm", "makespan: model", "with delays", "real", "real / model", "mean: model", "with delays", "real",
        "real / model", "at once", "preempted",
    )  # fmt: skip
    return table(head, rows)
