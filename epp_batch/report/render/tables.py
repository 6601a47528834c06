"""The tables and headline figures of a report as cells, for HTML, Markdown and the terminal alike."""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.report.model import DEVICE_NAMES, LATENCY_DESCRIPTIONS, RecordingRow, Report
from epp_batch.report.render import text
from epp_batch.report.render.text import UNKNOWN

_LATENCY_TITLES = {
    "wait": "queue wait",
    "start": "start latency",
    "completion": "completion latency",
    "service": "time on a device",
    "ttft": "first token of a summary",
    "summary": "a summary",
    "handoff": "transcript to summary",
}


class TableCell(NamedTuple):
    """One cell: the text shown, the number to sort by, and a tone (`good`, `bad` or empty)."""

    text: str
    value: float | None = None
    tone: str = ""


class ReportTable(NamedTuple):
    """A table. Its first `text_columns` columns are text, the others numbers."""

    title: str
    headers: tuple[str, ...]
    rows: list[list[TableCell]]
    text_columns: int = 1
    note: str = ""
    droppable_columns: tuple[str, ...] = ()
    """Headers of columns to drop where there is too little room, the least important first."""

    def without_empty_columns(self) -> ReportTable:
        """Without columns of numbers that have no value in any row."""
        has_values = (any(row[index].value is not None for row in self.rows) for index in range(len(self.headers)))
        return self._select_columns(
            [index for index, some in enumerate(has_values) if some or index < self.text_columns]
        )

    def without_column(self, header: str) -> ReportTable:
        """Without the column of this header."""
        return self._select_columns([index for index, name in enumerate(self.headers) if name != header])

    def _select_columns(self, indices: list[int]) -> ReportTable:
        rows = [[row[index] for index in indices] for row in self.rows]
        return self._replace(headers=tuple(self.headers[index] for index in indices), rows=rows)


class Headline(NamedTuple):
    """One of the figures at the top of the page."""

    name: str
    value: str
    context: str


def duration_cell(value: float | None) -> TableCell:
    """A cell of a duration in seconds."""
    return TableCell(text.format_duration(value), value)


def device_hours_cell(hours: float | None) -> TableCell:
    """A cell of hours of a whole device."""
    return TableCell(text.format_hours(None if hours is None else hours * 3600, 2), hours)


def percent_cell(value: float | None) -> TableCell:
    """A cell of a share, 1 for 100 %."""
    return TableCell(text.format_percent(value), value)


def ratio_cell(value: float | None) -> TableCell:
    """A cell of a real-time factor."""
    return TableCell(text.format_ratio(value), value)


def _money_cell(value: float | None, report: Report) -> TableCell:
    return TableCell(text.format_money(value, report.currency), value)


def build_headlines(report: Report) -> list[Headline]:
    """The most important figures; none before the first unit was created."""
    if not report.makespan:
        return []
    speed = f"{report.speed:.3g} × real time" if report.speed else ""
    headlines = [Headline("makespan", text.format_duration(report.makespan), speed)]
    for name, title in (("completion", "mean completion"), ("wait", "mean queue wait")):
        latency = report.latencies.get(name)
        if latency is not None:
            p95 = f"P95 {text.format_duration(latency.p95)}"
            headlines.append(Headline(title, text.format_duration(latency.mean), p95))
    concurrency = report.concurrency
    headlines.append(Headline("at once", f"{concurrency.peak:,}", f"{concurrency.mean:.1f} on average"))
    for usage in report.uses:
        name = DEVICE_NAMES[usage.device]
        share = (
            f"{text.format_percent(usage.share, 0)} of {text.format_count(usage.count, name)}" if usage.count else ""
        )
        headlines.append(Headline(f"{name} time held", device_hours_cell(usage.allocated).text, share))
    if report.cost is not None:
        per_hour = report.cost / (report.audio_seconds / 3600) if report.audio_seconds else None
        context = f"{text.format_money(per_hour, '').strip()} an hour of audio"
        headlines.append(Headline("cost", text.format_money(report.cost, report.currency), context))
    if report.words is not None:
        context = f"of {text.format_count(report.words.reference, 'word')}"
        headlines.append(Headline("word error rate", text.format_percent(report.wer), context))
    ttft = report.latencies.get("ttft")
    if ttft is not None:
        context = f"median; P99 {text.format_duration(ttft.p99)}"
        headlines.append(Headline("first token", text.format_duration(ttft.median), context))
    return headlines


def build_latency_table(report: Report) -> ReportTable:
    """A row for each latency, with the paper's statistics."""
    rows = []
    for name, latency in report.latencies.items():
        figures = (latency.mean, latency.median, latency.p95, latency.p99, latency.max, latency.min, latency.std)
        cells = [TableCell(_LATENCY_TITLES[name]), TableCell(f"{latency.count:,}", latency.count)]
        rows.append(cells + [duration_cell(seconds) for seconds in figures])
    headers = ("latency", "count", "mean", "median", "P95", "P99", "max", "min", "std")
    note = "; ".join(f"{_LATENCY_TITLES[name]}: {LATENCY_DESCRIPTIONS[name]}" for name in report.latencies)
    note = f"{note[:1].upper()}{note[1:]}." if note else ""
    return ReportTable(
        "Latencies", headers, rows, note=note, droppable_columns=("std", "min", "max", "count", "median", "P99")
    )


def build_model_table(report: Report) -> ReportTable:
    """A row for each model."""
    devices = " and ".join(DEVICE_NAMES[usage.device] for usage in report.uses) or "GPU"
    has_cost, has_wer = report.cost is not None, report.words is not None
    headers = ["model", "done", "audio", "RTF", "RTF, on device", "mean completion", f"{devices} time"]
    headers += ["cost"] * has_cost + ["WER"] * has_wer
    rows = []
    for row in report.models:
        cells = [TableCell(row.model), TableCell(f"{row.done:,} of {row.recordings:,}", row.done)]
        cells += [TableCell(text.format_hours(row.audio_seconds), row.audio_seconds), ratio_cell(row.transcribe_rtf)]
        cells += [ratio_cell(row.service_rtf), duration_cell(row.completion.mean if row.completion else None)]
        cells += [device_hours_cell(row.device_hours)]
        cells += [_money_cell(row.cost, report)] * has_cost + [percent_cell(row.wer)] * has_wer
        rows.append(cells)
    note = (
        "RTF: seconds of transcription per second of audio, as workers measured it; on device: seconds on a device "
        "per second of audio, with loading, decoding and what evictions cost."
    )
    if report.normaliser:
        note += f" WER: errors / words of the references, by jiwer after {report.normaliser}."
    droppable = ("audio", "RTF, on device", "mean completion", "done")
    table = ReportTable("Models", tuple(headers), rows, note=note, droppable_columns=droppable)
    return table.without_empty_columns()


def build_device_table(report: Report) -> ReportTable:
    """A row for each kind of device, with what it was held for."""
    headers = (
        "device", "count", "at once", "time held", "of makespan", "transcribing", "before running", "unfinished",
        "price", "cost",
    )  # fmt: skip
    rows = [
        [
            TableCell(DEVICE_NAMES[usage.device]),
            TableCell(str(usage.count) if usage.count else UNKNOWN, usage.count or None),
            TableCell(f"{usage.peak:.3g}", usage.peak),
            device_hours_cell(usage.allocated),
            percent_cell(usage.share),
            device_hours_cell(usage.used),
            device_hours_cell(usage.starting),
            device_hours_cell(usage.evicted),
            _money_cell(usage.price, report),
            _money_cell(usage.cost, report),
        ]
        for usage in report.uses
    ]
    note = (
        "In whole devices; a slice counts slots / 8. At once: most held at the same time. Transcribing: as workers "
        "measured it. Unfinished: held by attempts that were evicted or failed; workers resume, so not all of it is "
        "lost."
    )
    droppable = ("at once", "price", "before running", "unfinished", "of makespan", "transcribing")
    return ReportTable("Devices", headers, rows, note=note, droppable_columns=droppable).without_empty_columns()


def build_recording_table(report: Report) -> ReportTable:
    """A row for each recording."""
    has_wer, has_cost, has_summaries = report.words is not None, report.cost is not None, bool(report.summaries)
    headers = ["recording", "model", "status", "place", "audio", "wait", "completion", "on device", "attempts", "RTF"]
    headers += ["cost"] * has_cost + ["WER"] * has_wer + ["first token"] * has_summaries
    rows = []
    for row in report.rows:
        cells = [TableCell(row.stem), TableCell(row.model), _status_cell(row)]
        cells += [TableCell(row.places[-1] if row.places else UNKNOWN)]
        cells += [duration_cell(value) for value in (row.audio_seconds, row.wait, row.completion, row.service)]
        cells += [_attempts_cell(row), ratio_cell(row.rtf)]
        cells += [_money_cell(row.cost, report)] * has_cost + [percent_cell(row.wer)] * has_wer
        cells += [duration_cell(row.ttft)] * has_summaries
        rows.append(cells)
    return ReportTable("Recordings", tuple(headers), rows, text_columns=4).without_empty_columns()


def _status_cell(row: RecordingRow) -> TableCell:
    tones = {"done": "good", "failed": "bad", "cancelled": "bad"}
    return TableCell("already done" if row.reused else row.status, tone=tones.get(row.status, ""))


def _attempts_cell(row: RecordingRow) -> TableCell:
    if not row.attempts:
        return TableCell(UNKNOWN)
    evictions = f" ({row.evictions} evicted)" if row.evictions else ""
    return TableCell(f"{row.attempts}{evictions}", row.attempts)
