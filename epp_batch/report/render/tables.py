"""The tables of a report as cells, for Markdown, the terminal and HTML alike."""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.report import words
from epp_batch.report.model import LATENCY_DESCRIPTIONS, DeviceKind, RecordingRow, Report
from epp_batch.report.words import UNKNOWN

_LATENCY_TITLES = {
    "wait": "queue wait",
    "start": "start latency",
    "completion": "completion latency",
    "service": "time on a device",
    "ttft": "first token of a summary",
    "summary": "a summary",
    "handoff": "transcript to summary",
}
DEVICE_NAMES: dict[DeviceKind, str] = {"gpu": "GPU", "worker": "worker"}


class TableCell(NamedTuple):
    """What is read, what it is sorted by, and whether it is `good` or `bad`."""

    text: str
    value: float | None = None
    tone: str = ""


class ReportTable(NamedTuple):
    """The first `left` columns are words, the others numbers."""

    title: str
    headers: tuple[str, ...]
    rows: list[list[TableCell]]
    text_columns: int = 1
    note: str = ""
    droppable_columns: tuple[str, ...] = ()
    """Heads of columns that may be left out where there is no room, first the one that is missed least."""

    def without_empty_columns(self) -> ReportTable:
        """Without columns of numbers in which nothing is known."""
        told = (any(row[index].value is not None for row in self.rows) for index in range(len(self.headers)))
        return self._select_columns([index for index, some in enumerate(told) if some or index < self.text_columns])

    def without_column(self, head: str) -> ReportTable:
        """The same less one column."""
        return self._select_columns([index for index, name in enumerate(self.headers) if name != head])

    def _select_columns(self, keep: list[int]) -> ReportTable:
        rows = [[row[index] for index in keep] for row in self.rows]
        return self._replace(headers=tuple(self.headers[index] for index in keep), rows=rows)


def duration_cell(value: float | None) -> TableCell:
    return TableCell(words.format_duration(value), value)


def number_cell(value: float | None) -> TableCell:
    return TableCell(words.format_number(value), value)


def device_hours_cell(hours: float | None) -> TableCell:
    """Time on devices."""
    return TableCell(words.format_hours(None if hours is None else hours * 3600, 2), hours)


def percent_cell(value: float | None) -> TableCell:
    return TableCell(words.format_percent(value), value)


def ratio_cell(value: float | None) -> TableCell:
    return TableCell(words.format_ratio(value), value)


def build_headlines(report: Report) -> list[tuple[str, str, str]]:
    """The handful of figures that stand first: name, value, a word of context."""
    found = report.latencies
    if not report.makespan:
        return []
    tiles = [("makespan", words.format_duration(report.makespan), _format_speed(report))]
    for name, title in (("completion", "mean completion"), ("wait", "mean queue wait")):
        one = found.get(name)
        if one is not None:
            tiles.append((title, words.format_duration(one.mean), f"P95 {words.format_duration(one.p95)}"))
    tiles.append(("at once", f"{report.concurrency.peak:,}", f"{report.concurrency.mean:.1f} on average"))
    for use in report.uses:
        seen = f"{words.format_percent(use.share, 0)} of {words.format_count(use.count, DEVICE_NAMES[use.device])}"
        tiles.append(
            (f"{DEVICE_NAMES[use.device]} time held", device_hours_cell(use.allocated).text, seen if use.count else "")
        )
    if report.cost is not None:
        each = report.cost / (report.audio_seconds / 3600) if report.audio_seconds else None
        tiles.append(
            (
                "cost",
                words.format_money(report.cost, report.currency),
                f"{words.format_money(each, '').strip()} an hour of audio",
            )
        )
    if report.words is not None:
        tiles.append(
            (
                "word error rate",
                words.format_percent(report.wer),
                f"of {words.format_count(report.words.reference, 'word')}",
            )
        )
    if "ttft" in found:
        tiles.append(
            (
                "first token",
                words.format_duration(found["ttft"].median),
                f"median; P99 {words.format_duration(found['ttft'].p99)}",
            )
        )
    return tiles


def _format_speed(report: Report) -> str:
    return f"{report.speed:.3g} × real time" if report.speed else ""


def build_latency_table(report: Report) -> ReportTable:
    """The paper's statistics of every latency."""
    rows = [
        [TableCell(_LATENCY_TITLES[name]), TableCell(f"{one.count:,}", one.count)]
        + [duration_cell(value) for value in (one.mean, one.median, one.p95, one.p99, one.max, one.min, one.std)]
        for name, one in report.latencies.items()
    ]
    note = "; ".join(f"{_LATENCY_TITLES[name]}: {LATENCY_DESCRIPTIONS[name]}" for name in report.latencies)
    heads = ("latency", "count", "mean", "median", "P95", "P99", "max", "min", "std")
    note = f"{note[:1].upper()}{note[1:]}." if note else ""
    return ReportTable(
        "Latencies", heads, rows, note=note, droppable_columns=("std", "min", "max", "count", "median", "P99")
    )


def build_model_table(report: Report) -> ReportTable:
    """One line a model."""
    named = " and ".join(DEVICE_NAMES[use.device] for use in report.uses) or "GPU"
    priced, judged = report.cost is not None, report.words is not None
    heads = ["model", "done", "audio", "RTF", "RTF, whole", "mean completion", f"{named} time"]
    heads += ["cost"] * priced + ["WER"] * judged
    rows = []
    for one in report.models:
        cells = [TableCell(one.model), TableCell(f"{one.done:,} of {one.recordings:,}", one.done)]
        cells += [TableCell(words.format_hours(one.audio_seconds), one.audio_seconds), ratio_cell(one.transcribe_rtf)]
        cells += [ratio_cell(one.service_rtf), duration_cell(one.completion.mean if one.completion else None)]
        cells += [device_hours_cell(one.device_hours)]
        cells += [_money_cell(one.cost, report)] * priced + [percent_cell(one.wer)] * judged
        rows.append(cells)
    note = (
        "RTF: seconds of transcribing for a second of audio, as workers measured; whole: seconds on a device instead, "
        "with loading, decoding and what evictions cost."
    )
    if report.normaliser:
        note += f" WER: errors / words of the references, by jiwer after {report.normaliser}."
    spare = ("audio", "RTF, whole", "mean completion", "done")
    return ReportTable("Models", tuple(heads), rows, note=note, droppable_columns=spare).without_empty_columns()


def build_device_table(report: Report) -> ReportTable:
    """What devices were held for."""
    heads = (
        "device",
        "seen",
        "at once",
        "time held",
        "of makespan",
        "transcribing",
        "before running",
        "without an end",
        "price",
        "cost",
    )
    rows = [
        [
            TableCell(DEVICE_NAMES[use.device]),
            TableCell(str(use.count) if use.count else UNKNOWN, use.count or None),
            TableCell(f"{use.peak:.3g}", use.peak),
            device_hours_cell(use.allocated),
            percent_cell(use.share),
            device_hours_cell(use.used),
            device_hours_cell(use.starting),
            device_hours_cell(use.evicted),
            _money_cell(use.price, report),
            _money_cell(use.cost, report),
        ]
        for use in report.uses
    ]
    note = (
        "Whole devices; a slice counts its slots of 8. At once: held at most. Transcribing: as workers measured. "
        "Without an end: held by attempts that were evicted or failed; workers go on where they were, so not all of it "
        "is lost."
    )
    spare = ("at once", "price", "before running", "without an end", "of makespan", "transcribing")
    return ReportTable("Devices", heads, rows, note=note, droppable_columns=spare).without_empty_columns()


def build_recording_table(report: Report) -> ReportTable:
    """One line a recording."""
    judged, priced, summed = report.words is not None, report.cost is not None, bool(report.summaries)
    heads = ["recording", "model", "status", "place", "audio", "wait", "completion", "on device", "attempts", "RTF"]
    heads += ["cost"] * priced + ["WER"] * judged + ["first token"] * summed
    rows = []
    for row in report.rows:
        cells = [
            TableCell(row.stem),
            TableCell(row.model),
            _status_cell(row),
            TableCell(row.places[-1] if row.places else UNKNOWN),
        ]
        cells += [
            duration_cell(row.audio_seconds),
            duration_cell(row.wait),
            duration_cell(row.completion),
            duration_cell(row.service),
        ]
        cells += [_attempts_cell(row), ratio_cell(row.rtf)]
        cells += (
            [_money_cell(row.cost, report)] * priced
            + [percent_cell(row.wer)] * judged
            + [duration_cell(row.ttft)] * summed
        )
        rows.append(cells)
    return ReportTable("Recordings", tuple(heads), rows, text_columns=4).without_empty_columns()


def _money_cell(value: float | None, report: Report) -> TableCell:
    return TableCell(words.format_money(value, report.currency), value)


def _status_cell(row: RecordingRow) -> TableCell:
    tones = {"done": "good", "failed": "bad", "cancelled": "bad"}
    return TableCell("done before" if row.reused else row.status, tone=tones.get(row.status, ""))


def _attempts_cell(row: RecordingRow) -> TableCell:
    if not row.attempts:
        return TableCell(UNKNOWN)
    return TableCell(f"{row.attempts} ({row.evictions} evicted)" if row.evictions else str(row.attempts), row.attempts)
