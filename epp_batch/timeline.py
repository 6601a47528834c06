"""What happened when: the one record that a live run, a local run and a simulated one all write, and reports read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

EventKind = Literal[
    "created",  # the Job exists, suspended; or the task is in the local queue
    "queued",  # Kueue knows it and it waits
    "reserved",  # quota is reserved
    "admitted",  # Kueue unsuspended the Job
    "running",  # its container runs; `place` says where
    "ready",  # all its pods are ready
    "evicted",  # quota taken away; `detail` has Kueue's reason (Preempted, PodsReadyTimeout, …)
    "requeued",
    "retried",  # a pod failed and the Job makes another
    "finished",
    "failed",
    "cancelled",
    "paused",
    "resumed",
    "summarizing",  # the transcript was sent
    "first-token",
    "refused",  # the gateway had no summary for now; `detail` says why, and when it is asked again
    "summarized",
    "unsummarized",  # the summary failed for good
]


class TimelineEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of one unit."""

    at: float
    """Wall seconds since 1970; seconds since the start in virtual time."""
    unit: str
    kind: EventKind
    place: str = ""
    """`node`, `node/gpu-3` or `node/gpu-3/4-7` (the slots of a slice, first and last)."""
    detail: str = ""
    stem: str = ""
    """Of one task, where a unit has several, and for summaries."""
    attempt: int = 0
    """Counts admissions from 1; 0 before the first."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TimelineEvent)


class Journal:
    """Appends events to a file, one JSON line each. A torn last line of a killed writer is ended first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _terminate_torn_line(path)
        self._file = path.open("ab", buffering=0)

    def append(self, event: TimelineEvent) -> None:
        """One write call: two writers do not mix within a line."""
        self._file.write(_encoder.encode(event) + b"\n")

    def close(self) -> None:
        self._file.close()


def read_events(path: Path) -> list[TimelineEvent]:
    """All events in file order; empty when there is no file. A torn last line is left out."""
    return list(parse_events(path.read_bytes().split(b"\n"))) if path.exists() else []


def parse_events(lines: Iterable[bytes]) -> Iterator[TimelineEvent]:
    """Events of JSON lines; an unreadable line is left out, since a killed writer may have torn it."""
    for line in lines:
        if line:
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError:
                continue


def _terminate_torn_line(path: Path) -> None:
    """Ends a torn line, so that what is appended begins a line of its own."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
