"""Numbers of an outcome, and the table that compares arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean

from bench.routing.replay import ReplayResult

BASELINE = "llm-d"
GOOD_TPOT = 0.1
"""Seconds a token, at most, for an answer that counts as good."""


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """Seconds, and shares from 0 to 1. `imbalance`: requests of the busiest server over the mean."""

    ttft_mean: float
    ttft_p50: float
    ttft_p99: float
    e2e_mean: float
    tpot_mean: float
    hit_rate: float
    imbalance: float
    goodput: float
    preemptions: float


def summarize_replay(outcome: ReplayResult, slo: float) -> ReplaySummary:
    """Of one run. Goodput: the share of requests whose first token came within `slo` seconds."""
    ttft = sorted(outcome.ttft)
    return ReplaySummary(
        fmean(ttft),
        nearest_rank(ttft, 0.5),
        nearest_rank(ttft, 0.99),
        fmean(outcome.e2e),
        fmean(outcome.tpot) if outcome.tpot else 0.0,
        outcome.hits / outcome.queries if outcome.queries else 0.0,
        max(outcome.per_server) / fmean(outcome.per_server),
        sum(value <= slo for value in ttft) / len(ttft),
        outcome.preemptions,
    )


def average_summaries(runs: Sequence[ReplaySummary]) -> ReplaySummary:
    """Field by field over the seeds."""
    rows = [asdict(run) for run in runs]
    return ReplaySummary(**{name: fmean(row[name] for row in rows) for name in rows[0]})


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


COLUMNS = ("arm", "TTFT mean", "x", "p50", "p99", "x", "E2E mean", "x", "TPOT", "hits", "imbalance", "goodput")


def build_rows(arms: Mapping[str, ReplaySummary]) -> list[list[str]]:
    """One row an arm; each `x` is the figure before it over llm-d's."""
    base = arms.get(BASELINE)
    return [
        [
            name,
            _format_ms(f.ttft_mean),
            _format_ratio(f.ttft_mean, base.ttft_mean if base else 0.0),
            _format_ms(f.ttft_p50),
            _format_ms(f.ttft_p99),
            _format_ratio(f.ttft_p99, base.ttft_p99 if base else 0.0),
            f"{f.e2e_mean:.2f} s",
            _format_ratio(f.e2e_mean, base.e2e_mean if base else 0.0),
            f"{f.tpot_mean * 1000:.1f} ms",
            f"{f.hit_rate:.0%}",
            f"{f.imbalance:.2f}",
            f"{f.goodput:.1%}",
        ]
        for name, f in arms.items()
    ]


def format_text_table(arms: Mapping[str, ReplaySummary]) -> str:
    """For the terminal."""
    lines = [list(COLUMNS), *build_rows(arms)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def format_markdown_table(arms: Mapping[str, ReplaySummary]) -> str:
    """For docs/routing.md."""
    lines = [list(COLUMNS), ["---", *["--:"] * (len(COLUMNS) - 1)], *build_rows(arms)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _format_ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _format_ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else ""
