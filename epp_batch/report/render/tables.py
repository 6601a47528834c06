"""The tables of a report as cells, for Markdown, the terminal and HTML alike."""

from __future__ import annotations

from typing import NamedTuple

from epp_batch.report import words
from epp_batch.report.model import LATENCIES, Device, Report, Row
from epp_batch.report.words import DASH

_TITLES = {
    "wait": "queue wait",
    "start": "start latency",
    "completion": "completion latency",
    "service": "time on a device",
    "ttft": "first token of a summary",
    "summary": "a summary",
    "handoff": "transcript to summary",
}
DEVICES: dict[Device, str] = {"gpu": "GPU", "worker": "worker"}


class Cell(NamedTuple):
    """What is read, what it is sorted by, and whether it is `good` or `bad`."""

    text: str
    value: float | None = None
    tone: str = ""


class Table(NamedTuple):
    """The first `left` columns are words, the others numbers."""

    title: str
    heads: tuple[str, ...]
    rows: list[list[Cell]]
    left: int = 1
    note: str = ""
    spare: tuple[str, ...] = ()
    """Heads of columns that may be left out where there is no room, first the one that is missed least."""

    def known(self) -> Table:
        """Without columns of numbers in which nothing is known."""
        told = (any(row[index].value is not None for row in self.rows) for index in range(len(self.heads)))
        return self._only([index for index, some in enumerate(told) if some or index < self.left])

    def without(self, head: str) -> Table:
        """The same less one column."""
        return self._only([index for index, name in enumerate(self.heads) if name != head])

    def _only(self, keep: list[int]) -> Table:
        rows = [[row[index] for index in keep] for row in self.rows]
        return self._replace(heads=tuple(self.heads[index] for index in keep), rows=rows)


def lasting(value: float | None) -> Cell:
    return Cell(words.lasting(value), value)


def number(value: float | None) -> Cell:
    return Cell(words.number(value), value)


def held(hours: float | None) -> Cell:
    """Time on devices."""
    return Cell(words.hours(None if hours is None else hours * 3600, 2), hours)


def percent(value: float | None) -> Cell:
    return Cell(words.percent(value), value)


def ratio(value: float | None) -> Cell:
    return Cell(words.ratio(value), value)


def headlines(report: Report) -> list[tuple[str, str, str]]:
    """The handful of figures that stand first: name, value, a word of context."""
    found = report.latencies
    if not report.makespan:
        return []
    tiles = [("makespan", words.lasting(report.makespan), _speed(report))]
    for name, title in (("completion", "mean completion"), ("wait", "mean queue wait")):
        one = found.get(name)
        if one is not None:
            tiles.append((title, words.lasting(one.mean), f"P95 {words.lasting(one.p95)}"))
    tiles.append(("at once", f"{report.concurrency.peak:,}", f"{report.concurrency.mean:.1f} on average"))
    for use in report.uses:
        seen = f"{words.percent(use.share, 0)} of {words.count(use.count, DEVICES[use.device])}"
        tiles.append((f"{DEVICES[use.device]} time held", held(use.allocated).text, seen if use.count else ""))
    if report.cost is not None:
        each = report.cost / (report.audio_seconds / 3600) if report.audio_seconds else None
        tiles.append(
            ("cost", words.money(report.cost, report.currency), f"{words.money(each, '').strip()} an hour of audio")
        )
    if report.words is not None:
        tiles.append(
            ("word error rate", words.percent(report.wer), f"of {words.count(report.words.reference, 'word')}")
        )
    if "ttft" in found:
        tiles.append(
            ("first token", words.lasting(found["ttft"].median), f"median; P99 {words.lasting(found['ttft'].p99)}")
        )
    return tiles


def _speed(report: Report) -> str:
    return f"{report.speed:.3g} × real time" if report.speed else ""


def latencies(report: Report) -> Table:
    """The paper's statistics of every latency."""
    rows = [
        [Cell(_TITLES[name]), Cell(f"{one.count:,}", one.count)]
        + [lasting(value) for value in (one.mean, one.median, one.p95, one.p99, one.max, one.min, one.std)]
        for name, one in report.latencies.items()
    ]
    note = "; ".join(f"{_TITLES[name]}: {LATENCIES[name]}" for name in report.latencies)
    heads = ("latency", "count", "mean", "median", "P95", "P99", "max", "min", "std")
    note = f"{note[:1].upper()}{note[1:]}." if note else ""
    return Table("Latencies", heads, rows, note=note, spare=("std", "min", "max", "count", "median", "P99"))


def models(report: Report) -> Table:
    """One line a model."""
    named = " and ".join(DEVICES[use.device] for use in report.uses) or "GPU"
    priced, judged = report.cost is not None, report.words is not None
    heads = ["model", "done", "audio", "RTF", "RTF, whole", "mean completion", f"{named} time"]
    heads += ["cost"] * priced + ["WER"] * judged
    rows = []
    for one in report.models:
        cells = [Cell(one.model), Cell(f"{one.done:,} of {one.recordings:,}", one.done)]
        cells += [Cell(words.hours(one.audio_seconds), one.audio_seconds), ratio(one.transcribe_rtf)]
        cells += [ratio(one.service_rtf), lasting(one.completion.mean if one.completion else None)]
        cells += [held(one.device_hours)]
        cells += [_money(one.cost, report)] * priced + [percent(one.wer)] * judged
        rows.append(cells)
    note = (
        "RTF: seconds of transcribing for a second of audio, as workers measured; whole: seconds on a device instead, "
        "with loading, decoding and what evictions cost."
    )
    if report.normaliser:
        note += f" WER: errors / words of the references, by jiwer after {report.normaliser}."
    spare = ("audio", "RTF, whole", "mean completion", "done")
    return Table("Models", tuple(heads), rows, note=note, spare=spare).known()


def uses(report: Report) -> Table:
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
            Cell(DEVICES[use.device]),
            Cell(str(use.count) if use.count else DASH, use.count or None),
            Cell(f"{use.peak:.3g}", use.peak),
            held(use.allocated),
            percent(use.share),
            held(use.used),
            held(use.starting),
            held(use.evicted),
            _money(use.price, report),
            _money(use.cost, report),
        ]
        for use in report.uses
    ]
    note = (
        "Whole devices; a slice counts its slots of 8. At once: held at most. Transcribing: as workers measured. "
        "Without an end: held by attempts that were evicted or failed; workers go on where they were, so not all of it "
        "is lost."
    )
    spare = ("at once", "price", "before running", "without an end", "of makespan", "transcribing")
    return Table("Devices", heads, rows, note=note, spare=spare).known()


def recordings(report: Report) -> Table:
    """One line a recording."""
    judged, priced, summed = report.words is not None, report.cost is not None, bool(report.summaries)
    heads = ["recording", "model", "status", "place", "audio", "wait", "completion", "on device", "attempts", "RTF"]
    heads += ["cost"] * priced + ["WER"] * judged + ["first token"] * summed
    rows = []
    for row in report.rows:
        cells = [Cell(row.stem), Cell(row.model), _status(row), Cell(row.places[-1] if row.places else DASH)]
        cells += [lasting(row.audio_seconds), lasting(row.wait), lasting(row.completion), lasting(row.service)]
        cells += [_attempts(row), ratio(row.rtf)]
        cells += [_money(row.cost, report)] * priced + [percent(row.wer)] * judged + [lasting(row.ttft)] * summed
        rows.append(cells)
    return Table("Recordings", tuple(heads), rows, left=4).known()


def _money(value: float | None, report: Report) -> Cell:
    return Cell(words.money(value, report.currency), value)


def _status(row: Row) -> Cell:
    tones = {"done": "good", "failed": "bad", "cancelled": "bad"}
    return Cell("done before" if row.reused else row.status, tone=tones.get(row.status, ""))


def _attempts(row: Row) -> Cell:
    if not row.attempts:
        return Cell(DASH)
    return Cell(f"{row.attempts} ({row.evictions} evicted)" if row.evictions else str(row.attempts), row.attempts)
