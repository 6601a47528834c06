"""Views for files and pipes: plain lines, or one JSON object per line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TextIO

import msgspec

from epp_batch.output_folder import TaskFailure
from epp_batch.progress_view import words
from epp_batch.progress_view.run_tracker import RunStatus
from epp_batch.timeline import TimelineEvent

STATUS_INTERVAL_SECONDS = 10.0
_PRINTED_KINDS = ("finished", "evicted", "retried", "cancelled", "refused", "summarized", "unsummarized")


class LineView:
    """Ends, evictions and retries as they happen; the status every STATUS_INTERVAL_SECONDS, and at the end."""

    def __init__(self, out: TextIO, errors: TextIO, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._out, self._errors, self._names = out, errors, names
        self._last_line, self._last_status_at = "", float("-inf")
        self._shown_causes: set[str] = set()

    def on_event(self, event: TimelineEvent) -> None:
        if event.kind in _PRINTED_KINDS:
            print_line(self._out, words.format_event(event, self._names))

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        """Shown as part of the status."""

    def on_failure(self, failure: TaskFailure) -> None:
        print_line(self._errors, words.format_failure(failure))

    def on_status(self, status: RunStatus) -> None:
        for trouble in status.troubles:
            if _without_job_count(trouble) not in self._shown_causes:
                print_line(self._out, trouble)
        self._shown_causes = {_without_job_count(trouble) for trouble in status.troubles}
        line = words.format_counts(status)
        due = status.is_complete or status.at - self._last_status_at >= STATUS_INTERVAL_SECONDS
        if line != self._last_line and due:
            self._last_line, self._last_status_at = line, status.at
            print_line(self._out, words.format_status(status))

    def close(self) -> None:
        """Every line is flushed when it is printed."""


class JsonLinesView:
    """One JSON object per line; its only key says what it is: `event`, `progress`, `failure` or `state`."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out, self._errors = out, errors
        self._last_status_at = float("-inf")

    def on_event(self, event: TimelineEvent) -> None:
        self._print_json({"event": event})

    def on_progress(self, unit: str, audio_seconds: float) -> None:
        self._print_json({"progress": {"unit": unit, "audio_seconds": audio_seconds}})

    def on_failure(self, failure: TaskFailure) -> None:
        self._print_json({"failure": failure})
        print_line(self._errors, words.format_failure(failure))

    def on_status(self, status: RunStatus) -> None:
        if status.is_complete or status.at - self._last_status_at >= STATUS_INTERVAL_SECONDS:
            self._last_status_at = status.at
            self._print_json({"state": status})

    def close(self) -> None:
        """Every line is flushed when it is printed."""

    def _print_json(self, value: object) -> None:
        print_line(self._out, msgspec.json.encode(value).decode())


def print_line(stream: TextIO, text: str) -> None:
    """Prints and flushes one line. A reader that has closed the pipe does not stop the run."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(text, file=stream, flush=True)


def _without_job_count(trouble: str) -> str:
    """The cause without the number of Jobs in brackets, which changes all the time."""
    return trouble.rpartition(" (")[0] or trouble
