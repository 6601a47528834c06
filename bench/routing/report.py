"""Summaries of replays, and the table that compares policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean

from bench.routing.replay import ReplayResult

BASELINE = "llm-d"


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """Times in seconds, shares from 0 to 1. `imbalance`: requests of the busiest server over the mean."""

    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    e2e_mean: float
    tpot_mean: float
    hit_rate: float
    imbalance: float
    goodput: float
    preemptions: float


def summarize_replay(result: ReplayResult, slo: float) -> ReplaySummary:
    """One replay; `goodput` is the share of requests whose first token came within `slo` seconds."""
    ttft = sorted(result.ttft)
    return ReplaySummary(
        fmean(ttft),
        nearest_rank(ttft, 0.5),
        nearest_rank(ttft, 0.99),
        fmean(result.e2e),
        fmean(result.tpot) if result.tpot else 0.0,
        result.hits / result.queries if result.queries else 0.0,
        max(result.per_server) / fmean(result.per_server),
        sum(value <= slo for value in ttft) / len(ttft),
        result.preemptions,
    )


def average_summaries(runs: Sequence[ReplaySummary]) -> ReplaySummary:
    """The mean of each field over the seeds."""
    rows = [asdict(run) for run in runs]
    return ReplaySummary(**{name: fmean(row[name] for row in rows) for name in rows[0]})


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


COLUMNS = ("policy", "TTFT mean", "x", "p50", "p99", "x", "E2E mean", "x", "TPOT", "hits", "imbalance", "goodput")


def build_rows(policies: Mapping[str, ReplaySummary]) -> list[list[str]]:
    """One row a policy; each `x` is the figure before it divided by that of llm-d."""
    base = policies.get(BASELINE)
    return [
        [
            name,
            _format_ms(summary.ttft_mean),
            _format_ratio(summary.ttft_mean, base.ttft_mean if base else 0.0),
            _format_ms(summary.ttft_p50),
            _format_ms(summary.ttft_p99),
            _format_ratio(summary.ttft_p99, base.ttft_p99 if base else 0.0),
            f"{summary.e2e_mean:.2f} s",
            _format_ratio(summary.e2e_mean, base.e2e_mean if base else 0.0),
            f"{summary.tpot_mean * 1000:.1f} ms",
            f"{summary.hit_rate:.0%}",
            f"{summary.imbalance:.2f}",
            f"{summary.goodput:.1%}",
        ]
        for name, summary in policies.items()
    ]


def format_text_table(policies: Mapping[str, ReplaySummary]) -> str:
    """A table for the terminal."""
    lines = [list(COLUMNS), *build_rows(policies)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def format_markdown_table(policies: Mapping[str, ReplaySummary]) -> str:
    """A table for docs/routing.md."""
    lines = [list(COLUMNS), ["---", *["--:"] * (len(COLUMNS) - 1)], *build_rows(policies)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _format_ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _format_ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else ""
