"""Results as JSON and as Markdown tables, and their comparison with the budgets."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench.cost.scenarios import MeasurementResult

BEGIN = "<!-- bench-cost: begin -->"
END = "<!-- bench-cost: end -->"

METRIC_TITLES = {
    "cpu_us_per_request": "CPU us/request",
    "paced_us_per_request": "CPU us/request, normalized",
    "floor_us_per_request": "floor",
    "net_us_per_request": "without idle CPU",
    "net_us_per_chunk": "without idle CPU, per chunk",
    "requests_per_core_second": "requests per core second",
    "requests_per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "added_p50_ms": "added p50 ms",
    "added_p99_ms": "added p99 ms",
    "floor_p50_ms": "floor p50 ms",
    "floor_p99_ms": "floor p99 ms",
    "over_floor_p50_ms": "above the floor p50 ms",
    "over_floor_p99_ms": "above the floor p99 ms",
    "alone_p50_ms": "Envoy alone p50 ms",
    "alone_p99_ms": "Envoy alone p99 ms",
    "cores": "cores",
    "paced_cores": "cores, normalized",
    "scrapes_per_second": "scrapes/s",
    "mean_us": "mean us",
    "p50_us": "p50 us",
    "added_mb": "MB",
    "kb_per_stream": "kB per stream",
    "rss_mb": "RSS MB",
    "neighbour_cores": "cores of other processes",
}


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One budget of bench/limits.yaml. `ratio_to`: variant by whose value of the metric it is divided first."""

    scenario: str
    variant: str
    metric: str
    max: float | None = None
    min: float | None = None
    ratio_to: str = ""

    @property
    def name(self) -> str:
        """The budget in one line, as in the table."""
        ratio = f" / {self.ratio_to}" if self.ratio_to else ""
        return f"{self.scenario} ({self.variant}{ratio}) {METRIC_TITLES.get(self.metric, self.metric)}"


class BudgetResult(msgspec.Struct, frozen=True):
    """A budget and the measured value; None if the measurement was not made, or failed."""

    budget: Budget
    value: float | None

    @property
    def kept(self) -> bool:
        """Whether there is a value and it is within the budget."""
        if self.value is None:
            return False
        above = self.budget.max is not None and self.value > self.budget.max
        below = self.budget.min is not None and self.value < self.budget.min
        return not above and not below


def read_budgets(path: Path) -> list[Budget]:
    """Reads the budgets. Raises msgspec.ValidationError."""
    return msgspec.convert(yaml.safe_load(path.read_text("utf-8")), list[Budget])


def check_budgets(budgets: Iterable[Budget], results: Sequence[MeasurementResult]) -> list[BudgetResult]:
    """Compares the results with each budget of their scenarios."""
    measured = {(result.scenario, result.variant): result.numbers for result in results}
    scenarios = {result.scenario for result in results}
    checked = []
    for budget in budgets:
        if budget.scenario not in scenarios:
            continue
        value = measured.get((budget.scenario, budget.variant), {}).get(budget.metric)
        if budget.ratio_to and value is not None:
            other = measured.get((budget.scenario, budget.ratio_to), {}).get(budget.metric)
            value = value / other if other else None
        checked.append(BudgetResult(budget, value))
    return checked


def encode_json(results: Sequence[MeasurementResult], budget_results: Sequence[BudgetResult], generator: str) -> bytes:
    """All results and budgets as JSON."""
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "load_generator": generator,
        "results": results,
        "limits": [
            {**msgspec.to_builtins(checked.budget), "value": checked.value, "kept": checked.kept}
            for checked in budget_results
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def describe_machine() -> dict[str, str]:
    """CPU model, number of cores, and Python version."""
    model = platform.processor()
    for line in _read_lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpu": model, "cores": str(os.cpu_count()), "python": platform.python_version()}


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def render_markdown(
    results: Sequence[MeasurementResult], budget_results: Sequence[BudgetResult], generator: str
) -> str:
    """Tables: CPU per request by variant, all measurements, and the budgets."""
    machine = describe_machine()
    out = [
        f"{machine['cores']} cores ({machine['cpu']}) for all processes, Python {machine['python']}, "
        f"Envoy with one worker, load from {generator}.",
        *_render_variant_table([result for result in results if "cpu_us_per_request" in result.numbers]),
        "",
        "| scenario | variant | measured |",
        "|---|---|---|",
    ]
    for result in results:
        numbers = ", ".join(
            f"{METRIC_TITLES[name]} {format_figure(result.numbers[name])}"
            for name in METRIC_TITLES
            if name in result.numbers
        )
        failure = result.error.splitlines()[0] if result.error else ""
        out.append(f"| {result.scenario} | {result.variant} | {numbers or 'failed: ' + failure} |")
    return "\n".join([*out, *_render_budget_table(budget_results)]) + "\n"


def _render_variant_table(results: Sequence[MeasurementResult]) -> list[str]:
    """CPU per request: a row per scenario, a column per variant."""
    variants = list(dict.fromkeys(result.variant for result in results))
    cells = {(result.scenario, result.variant): result.numbers["cpu_us_per_request"] for result in results}
    if not cells:
        return []
    lines = ["", "| CPU us/request | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]
    for scenario in dict.fromkeys(result.scenario for result in results):
        found = (cells.get((scenario, variant)) for variant in variants)
        lines.append(
            f"| {scenario} | " + " | ".join("" if cell is None else format_figure(cell) for cell in found) + " |"
        )
    return lines


def _render_budget_table(budget_results: Sequence[BudgetResult]) -> list[str]:
    if not budget_results:
        return []
    lines = ["", "| budget | limit | measured | |", "|---|---|---|---|"]
    for checked in budget_results:
        budget = checked.budget
        bound = f"<= {format_figure(budget.max)}" if budget.max is not None else f">= {format_figure(budget.min or 0)}"
        value = "not measured" if checked.value is None else format_figure(checked.value)
        lines.append(f"| {budget.name} | {bound} | {value} | {'kept' if checked.kept else '**missed**'} |")
    return lines


def format_figure(value: float) -> str:
    """A number with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_table(path: Path, table: str) -> None:
    """Writes the table between the markers of the page, which is created if it does not exist."""
    text = path.read_text("utf-8") if path.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{path} has no {BEGIN} … {END}")
    path.write_text(f"{head}{BEGIN}\n{table}{END}{tail}", "utf-8")
