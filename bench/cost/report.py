"""Results as JSON, as a Markdown table, and against the budgets."""

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
    "cpu_us_per_request": "CPU us a request",
    "paced_us_per_request": "CPU us at the budgets' pace",
    "floor_us_per_request": "floor",
    "net_us_per_request": "less idle CPU",
    "net_us_per_chunk": "less idle CPU, a chunk",
    "requests_per_core_second": "requests a core second",
    "requests_per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "added_p50_ms": "added p50 ms",
    "added_p99_ms": "added p99 ms",
    "floor_p50_ms": "floor p50 ms",
    "floor_p99_ms": "floor p99 ms",
    "over_floor_p50_ms": "over the floor p50 ms",
    "over_floor_p99_ms": "over the floor p99 ms",
    "alone_p50_ms": "Envoy alone p50 ms",
    "alone_p99_ms": "Envoy alone p99 ms",
    "cores": "cores",
    "paced_cores": "cores at the budgets' pace",
    "scrapes_per_second": "scrapes/s",
    "mean_us": "mean us",
    "p50_us": "p50 us",
    "added_mb": "MB",
    "kb_per_stream": "kB a stream",
    "rss_mb": "RSS MB",
    "neighbour_cores": "neighbours' cores",
}


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One budget. `ratio_to`: another variant of the scenario, by whose number it is divided first."""

    scenario: str
    variant: str
    metric: str
    max: float | None = None
    min: float | None = None
    ratio_to: str = ""

    @property
    def name(self) -> str:
        ratio = f" / {self.ratio_to}" if self.ratio_to else ""
        return f"{self.scenario} ({self.variant}{ratio}) {METRIC_TITLES.get(self.metric, self.metric)}"


class BudgetResult(msgspec.Struct, frozen=True):
    """A budget and what was measured; None: the run was not made, or failed."""

    budget: Budget
    value: float | None

    @property
    def kept(self) -> bool:
        if self.value is None:
            return False
        above = self.budget.max is not None and self.value > self.budget.max
        below = self.budget.min is not None and self.value < self.budget.min
        return not above and not below


def read_budgets(path: Path) -> list[Budget]:
    """The budgets."""
    return msgspec.convert(yaml.safe_load(path.read_text("utf-8")), list[Budget])


def check_budgets(limits: Iterable[Budget], results: Sequence[MeasurementResult]) -> list[BudgetResult]:
    """Each budget whose scenario was asked for, against the results."""
    measured = {(result.scenario, result.variant): result.numbers for result in results}
    scenarios = {result.scenario for result in results}
    verdicts = []
    for limit in limits:
        if limit.scenario not in scenarios:
            continue
        value = measured.get((limit.scenario, limit.variant), {}).get(limit.metric)
        if limit.ratio_to and value is not None:
            other = measured.get((limit.scenario, limit.ratio_to), {}).get(limit.metric)
            value = value / other if other else None
        verdicts.append(BudgetResult(limit, value))
    return verdicts


def encode_json(results: Sequence[MeasurementResult], verdicts: Sequence[BudgetResult], generator: str) -> bytes:
    """Everything, for machines."""
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "load_generator": generator,
        "results": results,
        "limits": [
            {**msgspec.to_builtins(verdict.budget), "value": verdict.value, "kept": verdict.kept}
            for verdict in verdicts
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def describe_machine() -> dict[str, str]:
    """What the numbers were taken on."""
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


def render_markdown(results: Sequence[MeasurementResult], verdicts: Sequence[BudgetResult], generator: str) -> str:
    """Tables: CPU a request by variant, all that was measured, and the budgets."""
    facts = describe_machine()
    out = [
        f"{facts['cores']} cores ({facts['cpu']}) for all processes, Python {facts['python']}, Envoy with one worker, "
        f"load from {generator}.",
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
    return "\n".join([*out, *_render_budget_table(verdicts)]) + "\n"


def _render_variant_table(results: Sequence[MeasurementResult]) -> list[str]:
    """Scenarios down, variants across."""
    variants = list(dict.fromkeys(result.variant for result in results))
    cells = {(result.scenario, result.variant): result.numbers["cpu_us_per_request"] for result in results}
    if not cells:
        return []
    lines = ["", "| CPU us a request | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]
    for scenario in dict.fromkeys(result.scenario for result in results):
        found = (cells.get((scenario, variant)) for variant in variants)
        lines.append(
            f"| {scenario} | " + " | ".join("" if cell is None else format_figure(cell) for cell in found) + " |"
        )
    return lines


def _render_budget_table(verdicts: Sequence[BudgetResult]) -> list[str]:
    if not verdicts:
        return []
    lines = ["", "| budget | limit | measured | |", "|---|---|---|---|"]
    for verdict in verdicts:
        limit = verdict.budget
        bound = f"<= {format_figure(limit.max)}" if limit.max is not None else f">= {format_figure(limit.min or 0)}"
        value = "not measured" if verdict.value is None else format_figure(verdict.value)
        lines.append(f"| {limit.name} | {bound} | {value} | {'kept' if verdict.kept else '**missed**'} |")
    return lines


def format_figure(value: float) -> str:
    """Three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_table(path: Path, table: str) -> None:
    """Puts the table between the markers; makes the page if there is none."""
    text = path.read_text("utf-8") if path.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{path} has no {BEGIN} … {END}")
    path.write_text(f"{head}{BEGIN}\n{table}{END}{tail}", "utf-8")
