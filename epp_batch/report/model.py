"""The report as data. Its JSON form is this struct, so a renamed field is a new format.

All times are seconds on the report's axis (`run_timeline.TimeAxis`): 0 is the first creation, and idle time between two
invocations is cut out. `Report.began` is second 0 as in events: seconds since 1970, or virtual ones.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from epp_batch.report.stats import Distribution, Step
from epp_batch.report.unit_history import AttemptEnding, UnitState

RecordingStatus = Literal["done", "failed", "cancelled", "running", "waiting"]
DeviceKind = Literal["gpu", "worker"]
DEVICE_NAMES: dict[DeviceKind, str] = {"gpu": "GPU", "worker": "worker"}
"""Names for people."""
STATUS_OF_STATE: dict[UnitState, RecordingStatus] = {
    "finished": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "running",
    "waiting": "waiting",
}

LATENCY_DESCRIPTIONS = {
    "wait": "created until admitted by the queue, or until running where nothing admits",
    "start": "created until the container runs for the first time",
    "completion": "created until finished",
    "service": "seconds on a device, all attempts together",
    "ttft": "last request sent until its first token",
    "summary": "first request sent until the answer is complete",
    "handoff": "transcript finished until its summary is complete",
}
"""What each latency measures."""


class WordErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Word errors of one transcript, or the sums of several, after normalisation."""

    reference: int
    """Words of the reference."""
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def rate(self) -> float | None:
        """The word error rate; None without words in the reference."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.reference if self.reference else None

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            reference=self.reference + other.reference,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


class IdleCut(msgspec.Struct, frozen=True):
    """Idle time that is cut out of the axis."""

    at: float
    """Where, in seconds on the axis."""
    seconds: float
    """How much."""


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a unit; a bar of the chart."""

    unit: str
    label: str
    """Stem of the first recording, and how many others there are."""
    model: str
    place: str
    attempt: int
    allocated: float
    """When the unit got its device."""
    running: float | None
    """When its container started; None if it never did."""
    ended: float
    """The newest time of the run while `ending` is `open`."""
    ending: AttemptEnding
    detail: str
    device: DeviceKind
    share: float
    """Share of a GPU: 1 for a whole one, slots / 8 for a slice, 0 for a worker process."""

    @property
    def seconds(self) -> float:
        """How long it held its device."""
        return self.ended - self.allocated


class SummarySpan(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of one transcript."""

    stem: str
    sent: float
    """When its first request was sent."""
    asked: float
    """When its last request was sent."""
    first_token: float | None
    ended: float
    ending: Literal["summarized", "unsummarized", "open"]


class RecordingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recording."""

    stem: str
    source: str
    model: str
    unit: str
    status: RecordingStatus
    reused: bool = False
    """Finished by an earlier run; this one did no work for it."""
    audio_seconds: float | None = None
    created: float | None = None
    finished: float | None = None
    wait: float | None = None
    """A latency of its unit, like `start`, `completion` and `service`: see LATENCY_DESCRIPTIONS."""
    start: float | None = None
    completion: float | None = None
    service: float | None = None
    attempts: int = 0
    evictions: int = 0
    places: tuple[str, ...] = ()
    transcribe: float | None = None
    """Seconds of transcription, as the worker measured them."""
    rtf: float | None = None
    """Real-time factor: `transcribe` / audio seconds."""
    language: str = ""
    device_hours: float = 0.0
    """GPU hours held, weighted by share, or worker hours; a unit's are divided among its recordings by audio length."""
    cost: float | None = None
    words: WordErrors | None = None
    wer: float | None = None
    ttft: float | None = None
    summary: float | None = None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """All recordings of one model."""

    model: str
    recordings: int
    done: int
    audio_seconds: float
    """Of done recordings."""
    transcribe_rtf: float | None
    """Sum of `transcribe` / sum of audio seconds of the same recordings; None without measurements."""
    service_rtf: float | None
    """Sum of `service` / sum of audio seconds: includes loading, decoding and what evictions cost."""
    completion: Distribution | None
    device_hours: float
    cost: float | None
    words: WordErrors | None
    wer: float | None


class DeviceUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Device time of one kind of device, in hours of a whole device."""

    device: DeviceKind
    count: int
    """Distinct devices; 0 where places name only nodes."""
    peak: float
    """Most devices held at the same time, weighted by share."""
    allocated: float
    """Held by attempts, weighted by share."""
    used: float | None
    """Transcribing, as workers measured it; None without measurements."""
    starting: float
    """Held before the container started."""
    evicted: float
    """Held by attempts that were evicted, failed or lost. Not all of it is wasted, since workers resume."""
    share: float | None
    """allocated / (count * makespan)."""
    price: float | None
    """Per hour of a whole device; the mean where prices of models differ."""
    cost: float | None


class Concurrency(msgspec.Struct, frozen=True, kw_only=True):
    """How many units ran and waited at the same time."""

    peak: int
    mean: float
    """Over the makespan."""
    running: tuple[Step, ...]
    """Over time."""
    waiting: tuple[Step, ...]
    """Created and not running, over time."""


class RecordingFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one recording or its summary failed."""

    source: str
    stage: str
    message: str
    remedy: str

    def __str__(self) -> str:
        line = f"{self.source}: {self.stage}: {self.message}" if self.stage else f"{self.source}: {self.message}"
        return f"{line}; {self.remedy}" if self.remedy else line


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run, measured; finished or not."""

    run: str
    kind: Literal["cluster", "local", "virtual"]
    began: float
    makespan: float
    """From the first creation to the last end of a unit, without idle time."""
    length: float
    """The same until the last summary: the length of the axis."""
    complete: bool
    """No recording is waiting or running."""
    counts: dict[RecordingStatus, int]
    """Recordings by status."""
    reused: int
    audio_seconds: float
    """Of recordings that this run finished, without reused ones."""
    speed: float | None
    """`audio_seconds` / `makespan`."""
    latencies: dict[str, Distribution]
    """By the names in LATENCY_DESCRIPTIONS: `wait` of all admitted units, the others of finished ones."""
    concurrency: Concurrency
    evictions: int
    preemptions: int
    retries: int
    models: tuple[ModelRow, ...]
    uses: tuple[DeviceUsage, ...]
    cost: float | None
    currency: str
    words: WordErrors | None
    wer: float | None
    normaliser: str = ""
    """Name of the normaliser applied before words were compared; empty without word errors."""
    troubles: tuple[RecordingFailure, ...] = ()
    rows: tuple[RecordingRow, ...]
    spans: tuple[AttemptSpan, ...]
    summaries: tuple[SummarySpan, ...]
    cuts: tuple[IdleCut, ...]
    version: Literal[1] = 1

    @property
    def recording_count(self) -> int:
        """Number of recordings of every status."""
        return sum(self.counts.values())

    def handoff_times(self) -> tuple[float, float] | None:
        """When the first summary and when the last transcript was complete; None if one of them is missing."""
        ends = [span.ended for span in self.summaries if span.ending == "summarized"]
        transcripts = [row.finished for row in self.rows if row.finished is not None]
        return (min(ends), max(transcripts)) if ends and transcripts else None
