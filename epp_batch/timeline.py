"""The journal of a run: timestamped events of its units, by cluster runs, local runs and simulations; reports read
it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

EventKind = Literal[
    "created",  # the Job exists, suspended; in a local run: the unit is in the queue
    "queued",  # its Kueue Workload exists and is pending
    "reserved",  # Kueue has reserved quota (QuotaReserved)
    "admitted",  # Kueue unsuspended the Job
    "running",  # its container runs; `place` is where
    "ready",  # all its pods are ready
    "evicted",  # Kueue has evicted it; `detail` is Kueue's reason (Preempted, PodsReadyTimeout, …)
    "requeued",
    "retried",  # a pod failed and the Job starts another
    "finished",
    "failed",
    "cancelled",
    "paused",
    "resumed",
    "summarizing",  # the transcript was sent to the gateway
    "first-token",
    "refused",  # an attempt failed and is retried; `detail` has the reason and the delay
    "summarized",
    "unsummarized",  # the summary failed permanently
]


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state change of one unit."""

    at: float
    """Unix time in seconds; in a simulation, seconds since its start."""
    unit: str
    kind: EventKind
    place: str = ""
    """`node`, `node/gpu-3` or `node/gpu-3/4-7` (first and last slot of a MIG slice)."""
    detail: str = ""
    stem: str = ""
    """The task it concerns: set for summaries, and if the unit has several tasks."""
    attempt: int = 0
    """Number of the admission, from 1; 0 before the first."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TimelineEvent)


class Journal:
    """Appends events to a file, one JSON line each.

    Opening it terminates a line that a killed writer left incomplete.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _terminate_torn_line(path)
        self._file = path.open("ab", buffering=0)

    def append(self, event: TimelineEvent) -> None:
        """Appends in one write call, so that lines of concurrent writers do not interleave."""
        self._file.write(_encoder.encode(event) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_events(path: Path) -> list[TimelineEvent]:
    """All events in file order; empty if the file does not exist. Incomplete lines are skipped."""
    return list(parse_events(path.read_bytes().split(b"\n"))) if path.exists() else []


def parse_events(lines: Iterable[bytes]) -> Iterator[TimelineEvent]:
    """Decodes events from JSON lines.

    A line that does not decode is skipped: a killed writer may have left it incomplete.
    """
    for line in lines:
        if line:
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError:
                continue


def _terminate_torn_line(path: Path) -> None:
    """Adds the missing newline of an incomplete last line, so that the next event starts on a new line."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
