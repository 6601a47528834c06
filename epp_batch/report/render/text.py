"""Figures and sentences for people. An unknown figure is a dash."""

from __future__ import annotations

from datetime import UTC, datetime

from epp_batch.report.model import Report

UNKNOWN = "–"


def format_duration(seconds: float | None) -> str:
    """A duration in at most two units: `0.42 s`, `45.0 s`, `12 min 30 s`, `1 h 05 min`, `3 d 4 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def format_hours(seconds: float | None, digits: int = 1) -> str:
    """A sum of durations: decimal hours from one hour on, like `format_duration` below."""
    if seconds is None or seconds < 3600:
        return format_duration(seconds)
    return f"{seconds / 3600:,.{digits}f} h"


def format_number(value: float | None, digits: int = 2) -> str:
    """`1,234.50`."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def format_percent(value: float | None, digits: int = 1) -> str:
    """`12.5 %` for 0.125."""
    return UNKNOWN if value is None else f"{value * 100:.{digits}f} %"


def format_ratio(value: float | None) -> str:
    """A real-time factor with three significant digits."""
    return UNKNOWN if value is None else f"{value:.3g}"


def format_money(value: float | None, currency: str) -> str:
    """Two decimals; two significant digits below a tenth."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.0001:
        return f"< 0.0001 {currency}"
    return f"{value:,.2f} {currency}" if value >= 0.1 or not value else f"{value:.2g} {currency}"


def format_count(count: int, singular: str, plural: str = "") -> str:
    """`1 recording`, `2 recordings`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def describe_when(report: Report) -> str:
    """When and where the run was."""
    place = {"cluster": "on the cluster", "local": "on this machine", "virtual": "simulated, in virtual time"}[
        report.kind
    ]
    if report.kind == "virtual" or not report.began:
        return place
    return f"{datetime.fromtimestamp(report.began, UTC):%Y-%m-%d %H:%M:%S} UTC, {place}"


def summarize_report(report: Report) -> str:
    """The run in a few sentences: what was done, reused, left open, failed, evicted, summarised."""
    counts, total = report.counts, report.recording_count
    text = [f"{counts['done']:,} of {format_count(total, 'recording')} transcribed"]
    if report.makespan:
        text.append(f" in {format_duration(report.makespan)}")
    if report.audio_seconds and report.speed is not None:
        text.append(f": {format_hours(report.audio_seconds)} of audio, {report.speed:.3g} times as fast as it plays")
    parts = ["".join(text) + "."]
    if report.reused:
        parts.append(f"{report.reused:,} were already transcribed.")
    if counts["running"] + counts["waiting"]:
        parts.append(f"Not finished: {counts['running']:,} running, {counts['waiting']:,} waiting.")
    unsuccessful = [f"{counts[name]:,} {name}" for name in ("failed", "cancelled") if counts[name]]
    if unsuccessful:
        parts.append(f"{' and '.join(unsuccessful)}.".capitalize())
    if report.evictions:
        parts.append(f"{_describe_evictions(report)}.")
    return " ".join([*parts, *_describe_summaries(report)])


def _describe_evictions(report: Report) -> str:
    text = format_count(report.evictions, "eviction")
    if not report.preemptions:
        return text
    return f"{text}, {'all' if report.preemptions == report.evictions > 1 else f'{report.preemptions:,}'} by preemption"


def _describe_summaries(report: Report) -> list[str]:
    count = sum(span.ending == "summarized" for span in report.summaries)
    if not count:
        return []
    text = format_count(count, "summary", "summaries")
    times = report.handoff_times()
    if times and times[0] < times[1]:
        text += f", the first {format_duration(times[1] - times[0])} before the last transcript"
    return [f"{text}."]
