"""What a report says, as data: the JSON form is this struct.

All times are seconds on the report's axis (see `axis`): 0 is the first creation, idle days between two invocations are
cut out. `began` is second 0 as the events tell it: wall seconds since 1970, or virtual ones.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from epp_batch.report.axis import IdleCut
from epp_batch.report.stats import Distribution
from epp_batch.report.step_function import Step
from epp_batch.report.unit_history import AttemptEnding, UnitState

RecordingStatus = Literal["done", "failed", "cancelled", "running", "waiting"]
DeviceKind = Literal["gpu", "worker"]
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
    "service": "all attempts together",
    "ttft": "last request sent until its first token",
    "summary": "first request sent until the answer is complete",
    "handoff": "transcript finished until its summary is complete",
}
"""Name -> what is measured."""


class WordErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Word errors of one transcript or of many together, after normalisation."""

    reference: int
    """Words in the reference."""
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def rate(self) -> float | None:
        """The word error rate; None where the reference has no words."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.reference if self.reference else None

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            reference=self.reference + other.reference,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


class AttemptSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: a bar of the chart."""

    unit: str
    label: str
    """Stem of the first recording, with the number of the others."""
    model: str
    place: str
    attempt: int
    allocated: float
    """When the device became its own."""
    running: float | None
    """When its container ran."""
    ended: float
    """The end of what is known, where `ending` is open."""
    ending: AttemptEnding
    detail: str
    device: DeviceKind
    share: float
    """Of a GPU: 1 is a whole one, a slice has its slots of 8; 0 of a worker process."""

    @property
    def seconds(self) -> float:
        return self.ended - self.allocated


class SummarySpan(msgspec.Struct, frozen=True, kw_only=True):
    """One summary on its way."""

    stem: str
    sent: float
    """When it was asked for, first of all attempts."""
    asked: float
    """When the last attempt was sent."""
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
    """Was finished before; nothing was done for it."""
    audio_seconds: float | None = None
    created: float | None = None
    finished: float | None = None
    wait: float | None = None
    """Like `start`, `completion` and `service` a latency of its unit; see LATENCIES."""
    start: float | None = None
    completion: float | None = None
    service: float | None = None
    attempts: int = 0
    evictions: int = 0
    places: tuple[str, ...] = ()
    transcribe: float | None = None
    """Seconds that the worker spent on transcribing."""
    rtf: float | None = None
    """transcribe / audio seconds."""
    language: str = ""
    device_hours: float = 0.0
    """GPU-hours held, weighted by slice, or worker hours; a shard's are divided by length of audio."""
    cost: float | None = None
    words: WordErrors | None = None
    wer: float | None = None
    ttft: float | None = None
    summary: float | None = None


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    model: str
    recordings: int
    done: int
    audio_seconds: float
    """Of what is done."""
    transcribe_rtf: float | None
    """Sum of the workers' seconds of transcribing / sum of their audio seconds; None where no worker told."""
    service_rtf: float | None
    """Sum of seconds on a device / sum of audio seconds: loading, decoding and what evictions cost included."""
    completion: Distribution | None
    device_hours: float
    cost: float | None
    words: WordErrors | None
    wer: float | None


class DeviceUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Device time of one kind, in hours of a whole device."""

    device: DeviceKind
    count: int
    """Devices seen; 0 where places do not tell GPUs apart."""
    peak: float
    """Devices held at once, weighted by slice, at most."""
    allocated: float
    """Held by attempts, weighted by slice."""
    used: float | None
    """Spent on transcribing, as the workers tell; None where none did."""
    starting: float
    """Held before the container ran."""
    evicted: float
    """Held by attempts that were evicted, failed or lost; what they finished is not lost, since workers resume."""
    share: float | None
    """allocated / (count * makespan)."""
    price: float | None
    """Per hour of a whole device, the mean over models where prices differ."""
    cost: float | None


class Concurrency(msgspec.Struct, frozen=True, kw_only=True):
    """How many units at once."""

    peak: int
    mean: float
    """Over the makespan."""
    running: tuple[Step, ...]
    waiting: tuple[Step, ...]
    """Created and not running."""


class RecordingFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one recording did not end well."""

    source: str
    stage: str
    message: str
    remedy: str

    def __str__(self) -> str:
        line = f"{self.source}: {self.stage}: {self.message}" if self.stage else f"{self.source}: {self.message}"
        return f"{line}; {self.remedy}" if self.remedy else line


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run, measured."""

    run: str
    kind: Literal["cluster", "local", "virtual"]
    began: float
    makespan: float
    """First creation until the last unit ended, idle time cut out."""
    length: float
    """The same with summaries."""
    complete: bool
    """Every recording has come to an end."""
    counts: dict[RecordingStatus, int]
    """Of recordings."""
    reused: int
    audio_seconds: float
    """Of what this run finished; what was reused does not count."""
    speed: float | None
    """audio_seconds / makespan."""
    latencies: dict[str, Distribution]
    """By the names of LATENCIES: waits of all that were admitted, the others of what was finished."""
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
    """What was done to words before they were compared; "" where none were."""
    troubles: tuple[RecordingFailure, ...] = ()
    rows: tuple[RecordingRow, ...]
    spans: tuple[AttemptSpan, ...]
    summaries: tuple[SummarySpan, ...]
    cuts: tuple[IdleCut, ...]
    version: Literal[1] = 1

    @property
    def recording_count(self) -> int:
        return sum(self.counts.values())

    def handoff_times(self) -> tuple[float, float] | None:
        """When the first summary was complete, and when the last transcript was; None without either."""
        ends = [span.ended for span in self.summaries if span.ending == "summarized"]
        transcripts = [row.finished for row in self.rows if row.finished is not None]
        return (min(ends), max(transcripts)) if ends and transcripts else None
